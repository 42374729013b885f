-- settings: what is fixed when a namespace is first used, and what tells its data from all others.
--
-- KEYS[1]   the settings' hash
-- ARGV      1 partitions, 2 format version: what they become if there are none; 3 the identity that the data get if
--           they have none, or are at another place than before; 4 the place, '' if it is not known
-- returns   {partitions, format version, identity, 1 if it was renewed because of the place}
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
whole(1)
whole(2)
local identity, place, renewed = ARGV[3], ARGV[4], 0
if redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'format', ARGV[2])
end
if place ~= '' then
  local before = redis.call('HGET', KEYS[1], 'place')
  if before ~= place then
    redis.call('HSET', KEYS[1], 'place', place)
    if before then
      renewed = 1
      redis.call('HSET', KEYS[1], 'identity', identity)
    end
  end
end
local known = redis.call('HMGET', KEYS[1], 'partitions', 'format', 'identity')
if not known[3] or known[3] == '' then
  known[3] = identity
  redis.call('HSET', KEYS[1], 'identity', identity)
end
known[4] = renewed
return known
