-- Which conversation a request belongs to, and how many of its messages are new.
-- KEYS: conv, conv:old, standing, gone
-- ARGV: numbers in a line (the client spends 2 µs on each argument): now, idle gap, ttl, entries a
--         generation may have, how many marks, 1 if there are earlier ones, 1 if the client named
--         the session, how many messages follow the user's last (-1: none of them is a user's), 1 to
--         begin anew;
--       session (named or to be begun), its id to keep, a standing version to begin,
--       the marks from the latest on in lines; if any, the mark that the last answer has by itself
--         and how many messages follow it
-- Returns {-1} erased; {0} none seen, look at earlier marks too; {-2} a lone message that began a
--   conversation which has gone on since: begin anew, under an id of its own; else
--   {1, session id as kept, new messages, injected as kept or nil, standing version, session}
if redis.call('EXISTS', KEYS[4]) == 1 then return {-1} end
local numbers = {}
for number in string.gmatch(ARGV[1], '%S+') do numbers[#numbers + 1] = tonumber(number) end
local now_text = string.match(ARGV[1], '^%S+')
local now, gap, ttl, most, count, more, named, turn_at, anew = unpack(numbers)
local function get(field)
  return redis.call('HGET', KEYS[1], field) or redis.call('HGET', KEYS[2], field)
end
local known, seen_at, seen_in, turn
local looked, latest = 0, string.match(ARGV[5], '^[^\n]+')
local alone, follow = string.match(ARGV[6] or '', '^(%S+) (%d+)$')
follow = tonumber(follow)
if turn_at >= 0 then
  local at = 0
  for mark in string.gmatch(ARGV[5], '[^\n]+') do
    if at == turn_at then turn = mark break end
    at = at + 1
  end
end
-- What follows words that are new is new: "ok", a tool's result to a call that has no id of its own
-- (`function_call`, and "call_1" of some servers), was said in other conversations too.
local loop = turn and turn_at > 0 and string.sub(get('m' .. turn) or '0', 1, 1) == '0'
for mark in string.gmatch(ARGV[5], '[^\n]+') do
  local kept = not (loop and looked < turn_at)
    and (get('m' .. mark) or (looked == follow and get('m' .. alone)))
  if kept then
    local where = string.sub(kept, 2)
    known = known or where
    if string.sub(kept, 1, 1) == '1' then
      seen_at, seen_in = looked, where
      break
    end
  end
  looked = looked + 1
end
if not seen_at and more == 1 then return {0} end
local session = ARGV[2]
if count == 1 and named == 0 and seen_at and anew == 0 then
  local asked_last = get('l' .. seen_in)
  if asked_last and asked_last ~= latest then return {-2} end
end
if named == 0 and known and anew == 0 then
  local last = tonumber(get('a' .. known) or '')
  if last and now - last <= gap then session = known end
end
local fresh = seen_at or count
-- Said before, but elsewhere or long ago: its last message is said anew.
local again = seen_at == 0 and seen_in ~= session
if again then fresh = 1 end
-- Said before, and the answer broke off: asked again, it is what it was then.
local owed = seen_at == 0 and not again and get('u' .. latest)
if owed then fresh = tonumber(owed) end

local born = tonumber(redis.call('HGET', KEYS[1], 'born') or '')
local name, injected = get('n' .. session) or ARGV[3], get('i' .. session)
if born and (now - born > ttl or redis.call('HLEN', KEYS[1]) > most) then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('EXPIRE', KEYS[2], ttl)
  born = nil
end
if not born then redis.call('HSET', KEYS[1], 'born', now_text) end
redis.call('HSET', KEYS[1], 'a' .. session, now_text, 'n' .. session, name)
if turn then redis.call('HSET', KEYS[1], 'l' .. session, turn) end
if injected then redis.call('HSETNX', KEYS[1], 'i' .. session, injected) end
if latest and (again or seen_at ~= 0) then
  redis.call('HSET', KEYS[1], 'm' .. latest, '0' .. session)
end
redis.call('EXPIRE', KEYS[1], ttl)
local standing = redis.call('GET', KEYS[3])
if not standing then
  standing = ARGV[4]
  redis.call('SET', KEYS[3], standing, 'EX', ttl)
end
return {1, name, fresh, injected, standing, session}
