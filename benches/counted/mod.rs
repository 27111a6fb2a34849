//! Repeats one piece of work a given number of times: `BENCH SCENARIO COUNT`.
//!
//! `benches/instructions` runs that under callgrind with two counts. The difference is the cost of
//! the work, whatever else the process does. Without arguments, as under `cargo bench`, it prints
//! wall-clock times, which are only useful as ratios.

use std::time::Instant;

/// Does its work this many times.
pub(crate) type Work = Box<dyn FnMut(u64)>;

/// Prepares what the work needs.
pub(crate) type Prepare = Box<dyn FnOnce() -> Work>;

/// How often each scenario is repeated for a wall-clock time.
const TIMES: u64 = 100_000;

/// Runs the scenario on the command line, or all of them.
pub(crate) fn main(scenarios: Vec<(&str, Prepare)>) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [name, count] = arguments.as_slice()
        && let Ok(count) = count.parse()
    {
        let mut scenarios = scenarios.into_iter();
        let Some((_, prepare)) = scenarios.find(|scenario| scenario.0 == name) else {
            eprintln!("unknown scenario: {name}");
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
