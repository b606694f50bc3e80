-- Makes a connection's holder known and says what it holds: the whole truth, in the place of what the process held
-- before by an earlier connection. From then on, what that one still sends is refused.
--
-- KEYS: the holders, this process's record, a bucket for each amount
-- ARGV: process, epoch of this connection, milliseconds until the holder is given up, an amount for each bucket
-- Replies 1, or 0 where a later connection of the process has been here.

local HELD_MS = 900000
local RECORD_MS = 86400000

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = tonumber(ARGV[2])
local before = tonumber(redis.call('HGET', KEYS[2], 'e')) or 0
if epoch <= before then
  return 0
end

local holder, predecessor = ARGV[1] .. '.' .. ARGV[2], ARGV[1] .. '.' .. string.format('%d', before)
redis.call('HSET', KEYS[2], 'e', epoch)
redis.call('PEXPIRE', KEYS[2], RECORD_MS)
redis.call('ZREM', KEYS[1], predecessor)
redis.call('ZADD', KEYS[1], now_ms + ARGV[3], holder)
redis.call('PEXPIRE', KEYS[1], RECORD_MS)
for i = 3, #KEYS do
  redis.call('HDEL', KEYS[i], 'h:' .. predecessor)
  redis.call('HSET', KEYS[i], 'h:' .. holder, ARGV[i + 1])
  if redis.call('PTTL', KEYS[i]) < HELD_MS then
    redis.call('PEXPIRE', KEYS[i], HELD_MS)
  end
end
return 1
