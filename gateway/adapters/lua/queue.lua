-- Every step of the queue, each of them atomic. Called with ARGV[1] as the name of the step and
-- KEYS as the `due` key of the partition it concerns (`tops`, `totals` and `overdue` take many, and
-- only read).
-- All other keys are built from that one: same hash tag, same slot of a cluster.
-- The keys and their types are listed atop redis_queue/__init__.py. Redis 6.2 is enough.
--
-- A script may be sent twice (a client retries when an answer was lost): each step, repeated,
-- changes nothing and gives the answer that it gave before.

local HEADER = '>dddI4B' -- at, accepted, sequence number, characters, 1 if complete
local KEPT_MS = 60000    -- how long the end of a lease is remembered, for a repeated call

local B = string.sub(KEYS[1], 1, -4)
local call = redis.call

local function key(kind, tenant) return B .. kind .. ':' .. tenant end
local function text(number) return string.format('%.17g', number) end
local function bump(name, by) if by ~= 0 then call('HINCRBY', B .. 'counts', name, by) end end

-- Bytes of a user's exchanges and plans, whatever their state, and of the partition's.
local function weigh(tenant, by)
  bump('bytes', by)
  if by ~= 0 and call('INCRBY', key('size', tenant), by) <= 0 then
    call('DEL', key('size', tenant))
  end
end

local function words(s)
  local out = {}
  for word in string.gmatch(s, '%S+') do out[#out + 1] = word end
  return out
end

-- A number before the id keeps exchanges of one time in the order of their arrival.
local function member(sequence, id) return string.format('%015.0f', sequence) .. id end
local function id_of(name) return string.sub(name, 16) end

local function letter_of(tenant, name)
  return cjson.decode(call('HGET', key('letters', tenant), name))
end

local function next_number() return call('HINCRBY', B .. 'counts', 'seq', 1) end

-- Names what is pending of a user now: another after every change. The time keeps it from coming
-- twice where a crash took back the last numbers.
local function fresh_stamp(number, now)
  return string.format('%.0f', number) .. '@' .. text(now)
end

-- false where nothing is pending, '' where a program put it there that knows of no stamps.
local function stamp_of(tenant)
  local rule = key('rule', tenant)
  return call('HGET', rule, 'stamp') or (call('EXISTS', rule) == 1 and '')
end

-- When a worker is to look at this user, and since when its oldest exchange waits: told anew
-- from what there is after every change, so that no path can forget to. `stamped`: whoever changed
-- it has noted a fresh stamp.
local function schedule(tenant, now, stamped)
  local batch = call('HMGET', key('batch', tenant), 'until', 'retry_at', 'first')
  local accepted = key('accepted', tenant)
  local first = tonumber(call('ZRANGE', accepted, 0, 0, 'WITHSCORES')[2])
  local returned = call('LRANGE', key('returned', tenant), 0, -1)
  local oldest = first
  local function older(at) if not oldest or at < oldest then oldest = at end end
  for _, name in ipairs(returned) do older(tonumber(letter_of(tenant, name).first)) end
  local due
  if batch[1] and batch[1] ~= '0' then
    due = tonumber(batch[1])
  elseif batch[1] then
    due = tonumber(batch[2])
    older(tonumber(batch[3]))
  elseif #returned > 0 then
    due = now
  elseif first then
    local rule = call('HMGET', key('rule', tenant), 'idle', 'wait', 'most_chars', 'most', 'chars')
    local last = tonumber(call('ZRANGE', accepted, -1, -1, 'WITHSCORES')[2])
    due = math.min(last + tonumber(rule[1]), first + tonumber(rule[2]))
    if tonumber(rule[5]) >= tonumber(rule[3])
        or call('ZCARD', accepted) >= tonumber(rule[4]) then
      due = math.min(due, now)
    end
  end
  if due then
    call('ZADD', B .. 'due', due, tenant)
    if not stamped then
      call('HSET', key('rule', tenant), 'stamp', fresh_stamp(next_number(), now))
    end
  else
    call('ZREM', B .. 'due', tenant)
    call('DEL', key('rule', tenant))
  end
  if oldest then
    call('ZADD', B .. 'oldest', oldest, tenant)
  else
    call('ZREM', B .. 'oldest', tenant)
  end
end

local function holds(tenant, token)
  local batch = call('HMGET', key('batch', tenant), 'token', 'until')
  return batch[1] == token and batch[2] ~= '0'
end

local function ended(token, how)
  call('SET', B .. 'end:' .. token, how, 'PX', KEPT_MS)
end

local function ended_before(token, how)
  return call('GET', B .. 'end:' .. token) == how and 1 or 0
end

-- The dead letter keeps the exchanges where they are, and the plan, should there be one: what
-- was applied in part must not be decided anew.
local function bury(tenant, ids, letter, plan, now)
  local name = tenant .. '-' .. string.format('%.0f', next_number())
  letter.at, letter.ids, letter.n = text(now), table.concat(ids, ' '), #ids
  call('HSET', key('letters', tenant), name, cjson.encode(letter))
  if plan then call('HSET', key('letters', tenant), name .. ':plan', plan) end
  call('ZADD', B .. 'dead', now, name)
  bump('leased', -#ids)
  bump('dead', #ids)
end

-- The batch in two, in its order: it keeps its first ids, the others are the next batch, before
-- all else that waits. Both go on with so many tries behind them.
local function halve(tenant, keep, tries, reason, now)
  local batch, exchanges = key('batch', tenant), key('exchange', tenant)
  local parts, since = { {}, {} }, {}
  for i, id in ipairs(words(call('HGET', batch, 'ids'))) do
    local part = i <= keep and 1 or 2
    local _, at = struct.unpack(HEADER, call('HGET', exchanges, id))
    parts[part][#parts[part] + 1] = id
    if not since[part] or at < since[part] then since[part] = at end
  end
  call('HSET', batch, 'ids', table.concat(parts[1], ' '), 'n', #parts[1], 'tries', tries,
       'first', text(since[1]))
  local name = tenant .. '-' .. string.format('%.0f', next_number())
  local letter = { reason = reason, tries = tries, again = tries, first = text(since[2]),
                   at = text(now), ids = table.concat(parts[2], ' '), n = #parts[2] }
  call('HSET', key('letters', tenant), name, cjson.encode(letter))
  call('LPUSH', key('returned', tenant), name)
  return #parts[2]
end

-- Whether a plan was kept for a batch or a dead letter that holds this exchange, so that what is
-- written for it is decided. `in_batch`: it is in the present batch.
local function decided(tenant, id)
  local batch = call('HMGET', key('batch', tenant), 'ids', 'plan')
  for _, each in ipairs(words(batch[1] or '')) do
    if each == id then return batch[2] ~= false, true end
  end
  local letters = key('letters', tenant)
  for _, name in ipairs(call('HKEYS', letters)) do
    if string.sub(name, -5) ~= ':plan' then
      for _, each in ipairs(words(letter_of(tenant, name).ids)) do
        if each == id then return call('HEXISTS', letters, name .. ':plan') == 1, false end
      end
    end
  end
  return false, false
end

-- The next batch of a user that has none: a retried dead letter as it was, else the earliest
-- of what waits, as much as a batch may hold and at least one.
local function gather(tenant)
  local batch = key('batch', tenant)
  local name = call('LPOP', key('returned', tenant))
  if name then
    local letters = key('letters', tenant)
    local letter = letter_of(tenant, name)
    local plan = call('HGET', letters, name .. ':plan')
    call('HDEL', letters, name, name .. ':plan')
    call('HSET', batch, 'ids', letter.ids, 'n', letter.n,
         'tries', letter.again or 0, 'first', letter.first)
    if plan then call('HSET', batch, 'plan', plan) end
    bump('pending', -letter.n)
    bump('leased', letter.n)
    return true
  end
  local waiting, accepted = key('waiting', tenant), key('accepted', tenant)
  local rule = call('HMGET', key('rule', tenant), 'most_chars', 'most')
  if not rule[1] then return false end
  local ids, chars, first = {}, 0, nil
  for _, name in ipairs(call('ZRANGE', waiting, 0, tonumber(rule[2]) - 1)) do
    local id = id_of(name)
    local _, at, _, size = struct.unpack(HEADER, call('HGET', key('exchange', tenant), id))
    if #ids > 0 and chars + size > tonumber(rule[1]) then break end
    chars = chars + size
    if not first or at < first then first = at end
    ids[#ids + 1] = id
    call('ZREM', waiting, name)
    call('ZREM', accepted, id)
  end
  if #ids == 0 then return false end
  call('HINCRBY', key('rule', tenant), 'chars', -chars)
  call('HSET', batch, 'ids', table.concat(ids, ' '), 'n', #ids, 'tries', 0, 'first', text(first))
  bump('pending', -#ids)
  bump('leased', #ids)
  return true
end

local function handed(tenant)
  local batch = call('HMGET', key('batch', tenant), 'token', 'tries', 'plan', 'ids')
  local ids = words(batch[4])
  local next_due = call('ZRANGE', B .. 'due', 0, 0, 'WITHSCORES')[2]
  local answer = { next_due, tenant, batch[1], batch[2], batch[3] }
  for i, record in ipairs(call('HMGET', key('exchange', tenant), unpack(ids))) do
    answer[#answer + 1] = ids[i]
    answer[#answer + 1] = record
  end
  return answer
end

local steps = {}

-- First of the answer: 1 accepted, 2 replaced one whose answer was not complete, 3 not taken: such a
-- one was distilled already, or is decided, 0 known already, -1 erased, -2 too many of this user
-- wait, -3 they take too many bytes. Where it was accepted: its number, and the stamps of before and of now.
function steps.put(tenant, id, at, now, chars, complete, sealed,
                   idle, wait, most_chars, most, user_most, user_bytes, seen_s, seen_most)
  if call('EXISTS', key('gone', tenant)) == 1 then return { -1 } end
  local exchanges, waiting = key('exchange', tenant), key('waiting', tenant)
  local seen, cut, rule = key('seen', tenant), key('cut', tenant), key('rule', tenant)
  local function note(list)
    call('ZADD', list, now, id)
    call('ZREMRANGEBYSCORE', list, '-inf', text(tonumber(now) - tonumber(seen_s)))
    call('ZREMRANGEBYRANK', list, 0, -1 - tonumber(seen_most))
    call('EXPIRE', list, seen_s)
  end
  local old = call('HGET', exchanges, id)
  local accepted, sequence, old_chars, old_bytes = tonumber(now), nil, 0, 0
  local in_line = true
  if old then
    local _, was_complete
    _, accepted, sequence, old_chars, was_complete = struct.unpack(HEADER, old)
    if tonumber(complete) <= was_complete then return { 0 } end
    in_line = call('ZSCORE', waiting, member(sequence, id))
    if not in_line then
      local planned, in_batch = decided(tenant, id)
      if planned then return { 3 } end
      local batch = key('batch', tenant)
      local held = in_batch and call('HMGET', batch, 'until', 'n') or { '0' }
      if held[1] ~= '0' then -- who holds it has read less than there is now: it begins anew
        call('HSET', batch, 'until', '0', 'retry_at', now)
        bump('leased', -held[2])
        bump('pending', held[2])
      end
    end
    old_bytes = #old
    call('ZREM', cut, id)
  else
    if call('ZSCORE', seen, id) then
      return { complete == '1' and call('ZSCORE', cut, id) and 3 or 0 }
    end
    local held = tonumber(call('HGET', key('batch', tenant), 'n') or 0)
    if call('ZCARD', waiting) + held >= tonumber(user_most) then return { -2 } end
    local weight = tonumber(call('GET', key('size', tenant)) or 0)
    if weight > 0 and weight + #sealed > tonumber(user_bytes) then return { -3 } end
    sequence = next_number()
    call('ZADD', key('accepted', tenant), now, id)
    note(seen)
    if complete == '0' then note(cut) end
    bump('pending', 1)
  end
  local record = struct.pack(HEADER, tonumber(at), accepted, sequence, tonumber(chars),
                             tonumber(complete)) .. sealed
  call('HSET', exchanges, id, record)
  local before = stamp_of(tenant)
  local stamp = fresh_stamp(old and next_number() or sequence, now)
  if in_line then
    call('ZADD', waiting, at, member(sequence, id))
    call('HSET', rule, 'stamp', stamp,
         'idle', idle, 'wait', wait, 'most_chars', most_chars, 'most', most)
    call('HINCRBY', rule, 'chars', tonumber(chars) - old_chars)
  else
    call('HSET', rule, 'stamp', stamp)
  end
  weigh(tenant, #record - old_bytes)
  schedule(tenant, tonumber(now), true)
  return { old and 2 or 1, sequence, before, stamp }
end

-- {} or when the next one here falls due, then what is leased: tenant, token, tries, plan or
-- nil, and id and record of each exchange.
function steps.lease(claim, now, until_, max_tries, lost)
  local before = call('GET', B .. 'claim:' .. claim)
  if before then
    local known = words(before)
    if holds(known[1], known[2]) then return handed(known[1]) end
  end
  for _ = 1, 1000 do -- users whose last try is over are many at worst, never without end
    local tenant = call('ZRANGEBYSCORE', B .. 'due', '-inf', now, 'LIMIT', 0, 1)[1]
    if not tenant then return {} end
    local batch = key('batch', tenant)
    local was = call('HMGET', batch, 'until', 'tries', 'n', 'first', 'ids', 'plan')
    local ready = true
    if not was[1] then
      ready = gather(tenant)
    elseif was[1] == '0' then
      bump('pending', -was[3])
      bump('leased', was[3])
    else -- its holder was lost: that was a try
      local tries = call('HINCRBY', batch, 'tries', 1)
      local n = tonumber(was[3])
      if tries >= tonumber(max_tries) and n > 1 and not was[6] then
        -- One of them may be what its holders die of: the others need not share its end.
        local behind = math.max(0, tonumber(max_tries) - 2) -- as `TRIES_OF_A_PART` says
        local rest = halve(tenant, math.ceil(n / 2), behind, lost, tonumber(now))
        bump('leased', -rest)
        bump('pending', rest)
      elseif tries >= tonumber(max_tries) then
        local letter = { reason = lost, tries = tries, first = was[4] }
        bury(tenant, words(was[5]), letter, was[6], tonumber(now))
        call('DEL', batch)
        ready = false
      end
    end
    if ready then
      local last = tonumber(call('HGET', B .. 'counts', 'token') or 0)
      -- At least the time in ms: it grows even where a crash took back the last counts.
      local token = string.format('%.0f', math.max(last + 1, math.floor(tonumber(now) * 1000)))
      call('HSET', B .. 'counts', 'token', token)
      call('HSET', batch, 'token', token, 'until', until_)
      call('SET', B .. 'claim:' .. claim, tenant .. ' ' .. token, 'PX', KEPT_MS)
      schedule(tenant, tonumber(now))
      return handed(tenant)
    end
    schedule(tenant, tonumber(now))
  end
  return {}
end

-- The steps of a holder: 1, or 0 where the lease is not (any more) this one.

function steps.extend(tenant, token, until_)
  if not holds(tenant, token) then return 0 end
  call('HSET', key('batch', tenant), 'until', until_)
  call('ZADD', B .. 'due', until_, tenant)
  return 1
end

-- A plan stands once it is kept: another one is refused, for the first may be half applied.
function steps.keep_plan(tenant, token, plan)
  if not holds(tenant, token) then return 0 end
  local batch = key('batch', tenant)
  if call('HSETNX', batch, 'plan', plan) == 1 then
    weigh(tenant, #plan)
    return 1
  end
  return call('HGET', batch, 'plan') == plan and 1 or 0
end

function steps.done(tenant, token, now)
  if not holds(tenant, token) then return ended_before(token, 'done') end
  local batch, exchanges = key('batch', tenant), key('exchange', tenant)
  local ids = words(call('HGET', batch, 'ids'))
  local bytes = call('HSTRLEN', batch, 'plan')
  for _, id in ipairs(ids) do bytes = bytes + call('HSTRLEN', exchanges, id) end
  call('HDEL', exchanges, unpack(ids))
  call('DEL', batch)
  bump('leased', -#ids)
  weigh(tenant, -bytes)
  ended(token, 'done')
  schedule(tenant, tonumber(now))
  return 1
end

function steps.give_back(tenant, token, retry_at, reason, tries)
  if not holds(tenant, token) then return ended_before(token, 'back') end
  local batch = key('batch', tenant)
  local n = tonumber(call('HGET', batch, 'n'))
  call('HSET', batch, 'until', '0', 'retry_at', retry_at, 'reason', reason)
  call('HINCRBY', batch, 'tries', tries)
  bump('leased', -n)
  bump('pending', n)
  ended(token, 'back')
  schedule(tenant, tonumber(retry_at))
  return 1
end

-- Given back in two parts, the first of them `keep` exchanges long: it falls due at `retry_at`, the
-- other after it. Not where a plan was kept, which is one for all of them.
function steps.split(tenant, token, keep, retry_at, reason, tries)
  if not holds(tenant, token) then return ended_before(token, 'split') end
  local batch = key('batch', tenant)
  local was = call('HMGET', batch, 'n', 'plan')
  if was[2] or tonumber(keep) < 1 or tonumber(keep) >= tonumber(was[1]) then return 0 end
  halve(tenant, tonumber(keep), tonumber(tries), reason, tonumber(retry_at))
  call('HSET', batch, 'until', '0', 'retry_at', retry_at, 'reason', reason)
  bump('leased', -was[1])
  bump('pending', was[1])
  ended(token, 'split')
  schedule(tenant, tonumber(retry_at))
  return 1
end

-- The whole batch, or only the ids given: the lease then goes on with the others.
function steps.bury(tenant, token, reason, now, ...)
  if not holds(tenant, token) then return ended_before(token, 'buried') end
  local batch = key('batch', tenant)
  local was = call('HMGET', batch, 'ids', 'tries', 'first', 'plan')
  local ids, some, rest = words(was[1]), {}, {}
  for _, id in ipairs({ ... }) do some[id] = true end
  local part = next(some) ~= nil
  for i = #ids, 1, -1 do
    if part and not some[ids[i]] then table.insert(rest, 1, table.remove(ids, i)) end
  end
  if #ids == 0 then return 1 end
  local letter = { reason = reason, tries = tonumber(was[2]) + 1, first = was[3] }
  if #rest > 0 then
    bury(tenant, ids, letter, nil, tonumber(now))
    call('HSET', batch, 'ids', table.concat(rest, ' '), 'n', #rest)
  else
    bury(tenant, ids, letter, was[4], tonumber(now))
    call('DEL', batch)
    ended(token, 'buried')
  end
  schedule(tenant, tonumber(now))
  return 1
end

-- Of one user, without a lease.

-- Of lists of exchanges, each in the order of their times: the newest that is left in any of them
-- at each call, nil at their end. No list is always the newer one: a batch may be cut in two, a
-- dead letter come back, an older log arrive while a batch is leased.
local function newest_first(tenant, lists)
  local exchanges, tops = key('exchange', tenant), {}
  local function look(top)
    top.id = table.remove(top.ids)
    if not top.id then return false end
    local record, _ = call('HGET', exchanges, top.id), nil
    top.record, top.at, _, top.sequence, _, top.complete = record, struct.unpack(HEADER, record)
    return true
  end
  for _, ids in ipairs(lists) do
    local top = { ids = ids }
    if look(top) then tops[#tops + 1] = top end
  end
  local last
  return function()
    if last and not look(tops[last]) then table.remove(tops, last) end
    last = nil
    for i, top in ipairs(tops) do
      local best = tops[last]
      if not best or top.at > best.at or (top.at == best.at and top.sequence > best.sequence) then
        last = i
      end
    end
    return tops[last]
  end
end

-- The stamp; 1 if all follows; and the newest that are not distilled yet, newest first: ids and
-- records, as many as `most` and `bytes` allow. The record of one that is complete, and so final, is
-- left out where its number is `upto` or less.
function steps.pending(tenant, most, bytes, upto)
  local waiting = {}
  for i, name in ipairs(call('ZRANGE', key('waiting', tenant), -1 - tonumber(most), -1)) do
    waiting[i] = id_of(name)
  end
  local lists = { waiting, words(call('HGET', key('batch', tenant), 'ids') or '') }
  for _, name in ipairs(call('LRANGE', key('returned', tenant), 0, -1)) do
    lists[#lists + 1] = words(letter_of(tenant, name).ids)
  end
  local records, size, all = {}, 0, 1
  for one in newest_first(tenant, lists) do
    size = size + #one.record
    if #records >= 2 * tonumber(most) or (#records > 0 and size > tonumber(bytes)) then
      all = 0
      break
    end
    records[#records + 1] = one.id
    local known = one.complete == 1 and one.sequence <= tonumber(upto)
    records[#records + 1] = known and '' or one.record
  end
  return { stamp_of(tenant), all, unpack(records) }
end

function steps.records(tenant, ...)
  return call('HMGET', key('exchange', tenant), ...)
end

function steps.letter(name)
  return call('HGET', key('letters', string.match(name, '^(.*)-%d+$')), name)
end

function steps.retry(name, now)
  if call('ZREM', B .. 'dead', name) == 0 then return 0 end
  local tenant = string.match(name, '^(.*)-%d+$')
  local n = letter_of(tenant, name).n
  call('RPUSH', key('returned', tenant), name)
  bump('dead', -n)
  bump('pending', n)
  schedule(tenant, tonumber(now))
  return n
end

-- Everything of a user goes and a tombstone stays: pending, leased, dead, plans.
function steps.erase(tenant, gone_s)
  local exchanges, letters = key('exchange', tenant), key('letters', tenant)
  local batch = call('HMGET', key('batch', tenant), 'n', 'until', 'plan')
  local pending, leased, plans = call('ZCARD', key('waiting', tenant)), 0, 0
  local n, bytes = 0, 0
  for _, id in ipairs(call('HKEYS', exchanges)) do
    n, bytes = n + 1, bytes + call('HSTRLEN', exchanges, id)
  end
  if batch[1] and batch[2] ~= '0' then
    leased = tonumber(batch[1])
  elseif batch[1] then
    pending = pending + batch[1]
  end
  if batch[3] then plans, bytes = 1, bytes + #batch[3] end
  for _, name in ipairs(call('LRANGE', key('returned', tenant), 0, -1)) do
    pending = pending + letter_of(tenant, name).n
  end
  for _, name in ipairs(call('HKEYS', letters)) do
    call('ZREM', B .. 'dead', name)
    if string.sub(name, -5) == ':plan' then
      plans, bytes = plans + 1, bytes + call('HSTRLEN', letters, name)
    end
  end
  local dead = n - pending - leased
  bump('pending', -pending)
  bump('leased', -leased)
  bump('dead', -dead)
  bump('bytes', -bytes)
  for _, kind in ipairs({ 'exchange', 'waiting', 'accepted', 'seen', 'cut', 'rule', 'batch',
                          'returned', 'letters', 'size' }) do
    call('UNLINK', key(kind, tenant))
  end
  call('ZREM', B .. 'due', tenant)
  call('ZREM', B .. 'oldest', tenant)
  call('SET', key('gone', tenant), '1', 'EX', gone_s)
  return { pending, leased, dead, plans }
end

function steps.count(tenant)
  local n = call('HLEN', key('exchange', tenant))
  if n > 0 then return n end
  return call('EXISTS', key('waiting', tenant), key('accepted', tenant), key('batch', tenant),
              key('returned', tenant), key('letters', tenant), key('size', tenant))
end

-- Of many partitions at once: when the first user of each falls due, '' where nobody waits.
function steps.tops()
  local tops = {}
  for i, due in ipairs(KEYS) do tops[i] = call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or '' end
  return tops
end

-- Of many partitions at once: what the `counts` of each say, and since when its oldest waits.
function steps.totals()
  local totals = {}
  for i, due in ipairs(KEYS) do
    local base = string.sub(due, 1, -4)
    local row = call('HMGET', base .. 'counts', 'pending', 'leased', 'dead', 'bytes')
    row[5] = call('ZRANGE', base .. 'oldest', 0, 0, 'WITHSCORES')[2] or ''
    totals[i] = row
  end
  return totals
end

-- Of many partitions at once: how many users fell due by now and are with nobody; of one that is
-- leased, `due` says when the lease ends.
function steps.overdue(now)
  local users = 0
  for _, due in ipairs(KEYS) do users = users + call('ZCOUNT', due, '-inf', now) end
  return users
end

return steps[ARGV[1]](unpack(ARGV, 2))
