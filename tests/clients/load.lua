-- Preflights and actual requests in turn, each connection resting for as many milliseconds as the
-- argument says between two of them (load.py). What was wrong is printed at the end, one figure a line.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  answers, failed = 0, 0
  rest = tonumber(arguments[1])
  local fields = { ["Host"] = "others.example", ["Origin"] = "https://app.example" }
  local actual = wrk.format("GET", "/2", fields)
  fields["Access-Control-Request-Method"] = "PUT"
  local preflight = wrk.format("OPTIONS", "/2", fields)
  local turn = false
  request = function()
    turn = not turn
    return turn and preflight or actual
  end
end

function delay()
  return rest
end

function response(status)
  answers = answers + 1
  if status ~= 200 then
    failed = failed + 1
  end
end

function done(summary, latency)
  for _, name in ipairs({ "answers", "failed" }) do
    local sum = 0
    for _, thread in ipairs(threads) do
      sum = sum + thread:get(name)
    end
    io.write(string.format("%s=%d\n", name, sum))
  end
  for name, count in pairs(summary.errors) do
    io.write(string.format("error_%s=%d\n", name, count))
  end
  io.write(string.format("p99_microseconds=%d\n", latency:percentile(99)))
end
