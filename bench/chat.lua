-- wrk's side: each request has another text, another user at random, and its own session.
-- arguments: a file with a line of pairs of words for each user, a seed
local words, users, thread = {}, 0, 0

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
  "what did I say about %s and %s?",
  "do you remember what it was with %s and %s?",
  "who was it that told me of %s and %s",
  "say it again please: %s, %s",
}

local filler = {}
for word in string.gmatch("and then it would be that you just know how the same thing is still there"
    .. " for me", "%S+") do filler[#filler + 1] = word end

function request()
  local user = math.random(users)
  local own = words[user]
  local at = math.random(#own / 2) * 2
  local text = string.format(frames[math.random(#frames)], own[at - 1], own[at])
  -- words without substance, so that no text comes twice and none is about anything else
  for _ = 1, 7 do text = text .. " " .. filler[math.random(#filler)] end
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
