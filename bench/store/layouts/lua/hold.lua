-- hold: more time for an attempt that a commit had handed out, so that `w` says nothing of it yet; or a claimed one.
--
-- KEYS      1 the partition's anchor, 2 the flow, 3 the work
-- ARGV      1 the tag that the flow ends with, 2 the attempt as in `w`, 3 what `w` said of it (''; nothing), 4 what it
--           shall say
-- returns   1, or 0: the flow is elsewhere, or `w` says something else; it has to be looked at again
--- @include "flow"
if tag_of(KEYS[2]) ~= ARGV[1] or (redis.call('HGET', KEYS[3], ARGV[2]) or '') ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[3], ARGV[2], ARGV[4])
return 1
