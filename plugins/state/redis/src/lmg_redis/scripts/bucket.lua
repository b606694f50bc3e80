-- The head of step.lua: the rules of lmg.services.buckets, by the server's clock.
--
-- A bucket is a hash: `s` is spent, `t` is when (seconds since the epoch), `h:<holder>` is what a holder holds.
-- `s` drains evenly, what is held does not. KEYS[1] is a sorted set of the holders, scored by when each is given up
-- (milliseconds); what a holder holds that is not in it, or is overdue, counts for nothing.

local EPSILON = 1e-6 -- draining leaves fractions; less than a millionth of a token decides nothing
local HELD_MS = 900000 -- a bucket of which something is held is kept that long; its holders refresh it in time
local LONGEST_MS = 1e14 -- what PEXPIRE can add to the time of day

local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local now_ms = math.floor(now * 1000)

local alive -- by holder; asked for once, and only where somebody else holds something

local function is_alive(holder)
  if not alive then
    alive = {}
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now_ms, '+inf')) do
      alive[name] = true
    end
  end
  return alive[holder]
end

-- A clock that went back (another server took over) drains nothing.
local function drained(spent, at, capacity, window)
  if not window or spent == 0 then
    return 0
  end
  local left = spent - math.max(0, now - at) * (capacity / window)
  return left > EPSILON and left or 0
end

-- What `key` is now: spent, held by `mine` (a field's name) and by others, and the fields of those who are gone.
local function loaded(key, mine, capacity, window)
  local bucket = { key = key, spent = 0, mine = 0, others = 0, gone = {} }
  local raw = redis.call('HGETALL', key)
  local spent, at = 0, 0
  for i = 1, #raw, 2 do
    local field, value = raw[i], tonumber(raw[i + 1])
    if field == 's' then
      spent = value
    elseif field == 't' then
      at = value
    elseif field == mine then
      bucket.mine = value
      bucket.had = true
    elseif is_alive(string.sub(field, 3)) then
      bucket.others = bucket.others + value
    else
      bucket.gone[#bucket.gone + 1] = field
    end
  end
  bucket.exists = #raw > 0
  bucket.spent = drained(spent, at, capacity, window)
  bucket.capacity, bucket.window = capacity, window
  return bucket
end

-- Milliseconds until nothing of `bucket` is left to know.
local function lifetime(bucket)
  local ms = bucket.mine + bucket.others > 0 and HELD_MS or 0
  if bucket.spent > 0 and bucket.window then
    local drains = bucket.capacity > 0 and bucket.spent / bucket.capacity * bucket.window or bucket.window
    ms = math.max(ms, math.ceil(drains * 1000) + 1000)
  end
  return math.min(ms, LONGEST_MS)
end

local function stored(bucket, mine)
  local key = bucket.key
  if bucket.spent == 0 and bucket.mine == 0 and bucket.others == 0 then
    if bucket.exists then
      redis.call('DEL', key)
    end
    return
  end
  if bucket.mine > 0 then
    redis.call('HSET', key, 's', bucket.spent, 't', now, mine, bucket.mine)
  else
    redis.call('HSET', key, 's', bucket.spent, 't', now)
    if bucket.had then
      redis.call('HDEL', key, mine)
    end
  end
  for _, field in ipairs(bucket.gone) do
    redis.call('HDEL', key, field)
  end
  redis.call('PEXPIRE', key, lifetime(bucket))
end
