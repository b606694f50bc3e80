-- KEYS: a value. ARGV: what it has to be. Replies whether it was, and is no longer there.

if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
