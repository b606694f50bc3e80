-- Settles what has become of earlier takes, then takes all of what is asked for, or nothing. One step, one round trip.
--
-- KEYS: the holders, this process's record, a bucket for each settlement, a bucket for each take
-- ARGV: holder, number of this batch of settlements, how many settlements, '1' to only look at the takes;
--       capacity, window ('' for slots), release, spend for each settlement;
--       capacity, window, amount, '1' where it is held for each take
-- Replies {-1} where the server does not know this holder (any more): nothing was done, it has to say what it holds.
-- Else {0 or the take that waits longest, its wait ('' where time does not help), remaining, reset of each take…}.
-- Everything is read before anything is written: a script that fails has done nothing.

local holder, batch, settlements, look = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local mine = 'h:' .. holder

if settlements > 0 or not look then
  local until_ms = redis.call('ZSCORE', KEYS[1], holder)
  if not until_ms or tonumber(until_ms) < now_ms then
    return { -1 }
  end
end

local buckets, order = {}, {}

local function bucket_of(key, capacity, window)
  local bucket = buckets[key]
  if not bucket then
    bucket = loaded(key, mine, capacity, window)
    buckets[key] = bucket
    order[#order + 1] = bucket
  end
  return bucket
end

-- A batch is sent again where it is not known whether it arrived: it counts once.
local fresh = settlements > 0 and batch > (tonumber(redis.call('HGET', KEYS[2], 'n')) or 0)
local arg = 5
for i = 1, settlements do
  if fresh then
    local window = tonumber(ARGV[arg + 1])
    local bucket = bucket_of(KEYS[2 + i], tonumber(ARGV[arg]), window)
    bucket.mine = math.max(0, bucket.mine - ARGV[arg + 2])
    if window then
      bucket.spent = math.max(0, bucket.spent + ARGV[arg + 3])
    end
    bucket.changed = true
  end
  arg = arg + 4
end

local asked = {}
local refused, longest = 0, 0
for i = 3 + settlements, #KEYS do
  local capacity, window, amount = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
  local bucket = bucket_of(KEYS[i], capacity, window)
  if not bucket.asked then
    bucket.asked = { spent = bucket.spent, mine = bucket.mine }
  end
  local after = bucket.asked
  local over = after.spent + after.mine + bucket.others + amount - capacity
  asked[#asked + 1] = { bucket = bucket, capacity = capacity, window = window }
  if over > EPSILON then
    -- What is held is taken for spent: it drains from when it is settled, and by then it is rarely all used.
    local wait = (not window or amount > capacity) and math.huge or over / capacity * window
    if refused == 0 or wait > longest then
      refused, longest = #asked, wait
    end
  elseif ARGV[arg + 3] == '1' then
    after.mine = after.mine + amount
  else
    after.spent = after.spent + amount
  end
  arg = arg + 4
end

local reply = { refused, longest < math.huge and string.format('%.17g', longest) or '' }
for _, one in ipairs(asked) do
  local bucket = one.bucket
  local state = refused == 0 and bucket.asked or bucket
  local left = one.capacity - state.spent - state.mine - bucket.others
  local reset = one.window and one.capacity > 0 and state.spent / one.capacity * one.window or 0
  reply[#reply + 1] = math.max(0, math.floor(left + EPSILON))
  reply[#reply + 1] = string.format('%.17g', reset)
end

if fresh then
  redis.call('HSET', KEYS[2], 'n', batch)
end
for _, bucket in ipairs(order) do
  if bucket.asked and refused == 0 and not look then
    bucket.spent, bucket.mine, bucket.changed = bucket.asked.spent, bucket.asked.mine, true
  end
  if bucket.changed then
    stored(bucket, mine)
  end
end
return reply
