//! Does one piece of work as often as it is told: `BENCH SCENARIO COUNT`.
//!
//! `benches/instructions` runs that under callgrind with two counts; the difference is what the
//! work takes, whatever else the process does. Without arguments, as `cargo bench` runs it, wall-clock
//! times are printed, which are ratios at best.

use std::time::Instant;

/// Does its work that many times.
pub(crate) type Work = Box<dyn FnMut(u64)>;

/// Makes ready what the work needs.
pub(crate) type Prepare = Box<dyn FnOnce() -> Work>;

/// How often each scenario is done for a wall-clock time.
const TIMES: u64 = 100_000;

/// Runs the scenario that the command line names, or all of them.
pub(crate) fn main(scenarios: Vec<(&str, Prepare)>) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, count] = arguments.as_slice()
        && let Ok(count) = count.parse()
    {
        let mut scenarios = scenarios.into_iter();
        let Some((_, prepare)) = scenarios.find(|scenario| scenario.0 == name) else {
            eprintln!("there is no scenario {name}");
            std::process::exit(2);
        };
        prepare()(count);
        return;
    }
    for (name, prepare) in scenarios {
        let mut work = prepare();
        work(TIMES / 10);
        let start = Instant::now();
        work(TIMES);
        let each = start.elapsed().as_nanos() / u128::from(TIMES);
        println!("{name:24} {each:>8} ns");
    }
}
