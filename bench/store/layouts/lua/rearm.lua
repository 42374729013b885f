-- rearm: sets a flow's timer to when it is wanted next, after a scan had taken it. Nothing else makes one later.
--
-- KEYS      1 the partition's anchor, 2 the flow, 3 the work, 4 the timers
-- ARGV      1 the tag that the flow ends with, 2 when (ms), 3 member, 4.. attempts as in `w` and what it said of each
-- returns   1, or 0: something has changed since; it has to be looked at again
--- @include "flow"
if tag_of(KEYS[2]) ~= ARGV[1] then
  return 0
end
for i = 4, #ARGV, 2 do
  if (redis.call('HGET', KEYS[3], ARGV[i]) or '') ~= ARGV[i + 1] then
    return 0
  end
end
redis.call('ZADD', KEYS[4], 'XX', ARGV[2], ARGV[3])
return 1
