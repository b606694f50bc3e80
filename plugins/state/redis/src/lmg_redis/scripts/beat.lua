-- A holder lives on; forgets those who do not; keeps the buckets that it names, of which it holds something.
--
-- KEYS: the holders, this process's record, buckets
-- ARGV: holder, milliseconds until it is given up
-- Replies 1, or 0 where the server does not know the holder or a bucket (any more): it has to say what it holds.

local HELD_MS = 900000
local RECORD_MS = 86400000

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ms or tonumber(until_ms) < now_ms then
  return 0
end
redis.call('ZADD', KEYS[1], now_ms + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%d', now_ms))
redis.call('PEXPIRE', KEYS[1], RECORD_MS)
redis.call('PEXPIRE', KEYS[2], RECORD_MS)
local known = 1
for i = 3, #KEYS do
  local ms = redis.call('PTTL', KEYS[i])
  if ms == -2 then
    known = 0
  elseif ms < HELD_MS then
    redis.call('PEXPIRE', KEYS[i], HELD_MS)
  end
end
return known
