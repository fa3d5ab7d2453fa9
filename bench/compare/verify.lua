-- wrk: random numbers, every answer verified. `done` prints one JSON object.
--
-- wrk does not say which request a response belongs to. Primacy and the limit repeat the number; with Envoy's
-- transcoder, which does not, the answers "prime" are counted instead: as many as primes were asked for, but for
-- those still on their way.

local path, numbers, check = os.getenv("BENCH_PATH"), os.getenv("BENCH_NUMBERS"), os.getenv("BENCH_CHECK") == "1"
local requests, answers, is_prime, place = {}, {}, {}, 0
local threads = {}
asked_primes, told_primes, wrong, shares = 0, 0, 0, {}

function setup(thread) table.insert(threads, thread) end

function init()
  wrk.headers["Content-Type"] = "application/json"
  for number, answer in io.open(numbers):read("*a"):gmatch("(%d+) (%a+)\n") do
    table.insert(requests, wrk.format("POST", path, nil, '{"number":' .. number .. "}"))
    table.insert(is_prime, answer == "true" and 1 or 0)
    answers[number] = answer
  end
  if not check then response = nil end
end

function request()
  place = place % #requests + 1
  asked_primes = asked_primes + is_prime[place]
  return requests[place]
end

function response(status, headers, body)
  local told, by = body:match('"is_prime":(%a+),"processed_by":"([^"]+)"')
  local number = body:match('"number":"(%d+)"')
  if status ~= 200 or not told or (number and answers[number] ~= told) then
    wrong = wrong + 1
  else
    shares[by] = (shares[by] or 0) + 1
    if told == "true" then told_primes = told_primes + 1 end
  end
end

local function object(fields)
  local members = {}
  for name, value in pairs(fields) do
    value = type(value) == "table" and object(value) or string.format("%.6f", value)
    table.insert(members, string.format('"%s":%s', name, value))
  end
  return "{" .. table.concat(members, ",") .. "}"
end

function done(summary, latency)
  local thread, errors = threads[1], summary.errors -- wrk runs with -t1
  print(object({
    requests = summary.requests,
    seconds = summary.duration / 1e6,
    failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    wrong = thread:get("wrong"),
    asked_primes = thread:get("asked_primes"),
    told_primes = thread:get("told_primes"),
    p50_us = latency:percentile(50),
    p99_us = latency:percentile(99),
    shares = thread:get("shares"),
  }))
end
