-- wrk's side: each request has another text, another user at random, and its own session.
-- arguments: words file (a line for each user), users, "plain" to leave the memory headers out
local words, users, plain, thread = {}, 0, false, 0
local counter = 0

function setup(t)
  t:set("thread_number", thread)
  thread = thread + 1
end

function init(args)
  for line in io.lines(args[1]) do
    local own = {}
    for word in string.gmatch(line, "%S+") do own[#own + 1] = word end
    words[#words + 1] = own
  end
  users = #words
  math.randomseed(tonumber(args[2]) + thread_number)
end

local frames = {
  "what did I say about %s and %s? (%d)",
  "can you plan something with %s for me, and mind %s this time (%d)",
  "who was it that told me of %s in %s, note %d",
  "please write a short note on %s; it should fit %s (%d)",
}

function request()
  local user = math.random(users)
  local own = words[user]
  counter = counter + 1
  local text = string.format(frames[math.random(#frames)], own[math.random(#own)],
    own[math.random(#own)], counter * 64 + thread_number)
  local body = '{"model":"bench","messages":[{"role":"system","content":"You are a helpful'
    .. ' assistant of a small shop. Be brief, be kind, and never invent prices."},'
    .. '{"role":"user","content":"' .. text .. '"}]}'
  return wrk.format("POST", nil, {
    ["content-type"] = "application/json",
    ["authorization"] = "Bearer sk-bench-0000000000000000",
    ["x-memory-user"] = "user-" .. (user - 1),
    ["x-portkey-provider"] = "openai",
    ["x-portkey-custom-host"] = os.getenv("BENCH_UPSTREAM"),
  }, body)
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'JSON {"requests":%d,"seconds":%.6f,"p50_ms":%.4f,"p90_ms":%.4f,"p99_ms":%.4f,"max_ms":%.3f,'
      .. '"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
