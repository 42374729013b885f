-- unregister: a process does not serve the namespace any more.
--
-- KEYS[1]   the hash of nodes
-- ARGV      1 name, 2 instance
-- returns   1, or 0 where the name is another instance's or nobody's
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.match(held, '^%d+ (%S+) ') == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
