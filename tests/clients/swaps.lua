-- Load for the reload test: preflights and actual requests in turn, each answer checked to be of
-- one version of the policy only. What was wrong is printed at the end, one figure a line.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  answers, failed, mixed, closing, versions, latest = 0, 0, 0, 0, 0, nil
  local fields = { ["Host"] = "p.example", ["Origin"] = "https://app.example" }
  local actual = wrk.format("GET", "/key", fields)
  fields["Access-Control-Request-Method"] = "PUT"
  local preflight = wrk.format("OPTIONS", "/key", fields)
  local turn = false
  request = function()
    turn = not turn
    return turn and preflight or actual
  end
end

-- Names come as they are sent, so they are looked up in lower case.
local function lower(headers)
  local found = {}
  for name, value in pairs(headers) do
    found[name:lower()] = value
  end
  return found
end

function response(status, headers, body)
  answers = answers + 1
  if status ~= 200 then
    failed = failed + 1
    return
  end
  local fields = lower(headers)
  local age = fields["access-control-max-age"]
  if not age or fields["access-control-expose-headers"] ~= "x-generation-" .. age then
    mixed = mixed + 1
  end
  if (fields["connection"] or ""):lower() == "close" then
    closing = closing + 1
  end
  if age ~= latest then
    latest = age
    versions = versions + 1
  end
end

function done(summary, latency, requests)
  for _, name in ipairs({ "answers", "failed", "mixed", "closing", "versions" }) do
    local sum = 0
    for _, thread in ipairs(threads) do
      sum = sum + thread:get(name)
    end
    io.write(string.format("%s=%d\n", name, sum))
  end
  for name, count in pairs(summary.errors) do
    io.write(string.format("error_%s=%d\n", name, count))
  end
end
