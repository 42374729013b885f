-- save_action: keeps an action's definition.
--
-- KEYS      1 the hash of them
-- ARGV      1 name, 2 text, 3 most names
-- returns   1 if there was none of the name, 0 if there was, -1: there are too many, nothing was changed
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
local names_max = whole(3)
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= names_max then
  return -1
end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
