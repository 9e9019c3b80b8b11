-- What wrk runs: POSTs the bodies of a file in turn, and prints its figures as one line of JSON.
--
--     wrk -t1 … -s load.lua URL -- BODIES KEY EVERY
--
-- BODIES: a file, one JSON body a line. KEY: sent as a bearer token. EVERY: says "sent N" after
-- each so many requests; 0: never. Refused and failed requests are counted by wrk itself: a
-- response() here would cost it more than everything else.

local requests, number, every = {}, 0, 0

function init(args)
  every = tonumber(args[3])
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. args[2]
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, nil, body)
  end
end

function request()
  number = number + 1
  if every > 0 and number % every == 0 then
    io.write("sent ", number, "\n")
    io.flush()
  end
  return requests[(number - 1) % #requests + 1]
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, "late": %d, ' ..
    '"p50_us": %d, "p90_us": %d, "p99_us": %d, "most_us": %d}\n',
    summary.requests, summary.duration, failed.status,
    failed.connect + failed.read + failed.write, failed.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max
  ))
end
