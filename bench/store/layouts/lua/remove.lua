-- remove: flows of one retention list whose time is over. One that was taken up again since has another tag.
--
-- KEYS      1 the partition's anchor, 2 the list, 3 the index, then of each flow its key and that of its blocks
-- ARGV      1 the lease's epoch, 2 how long (ms) an id is remembered, then of each flow its entry in the list
-- returns   how many were removed
--- @include "flow"
local ids = {}
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return 0
end
local blocks = {}
for number = 4, #KEYS, 2 do
  local entry = ARGV[1 + number / 2]
  local tag, id = string.match(entry, '^%d+ (........) (.*)$')
  if redis.call('LREM', KEYS[2], 1, entry) == 1 and tag_of(KEYS[number]) == tag then
    bury(KEYS[number], ARGV[2])
    ids[#ids + 1] = id
    blocks[#blocks + 1] = KEYS[number + 1]
  end
end
if #ids > 0 then
  redis.call('ZREM', KEYS[3], unpack(ids))
  redis.call('UNLINK', unpack(blocks))
end
return #ids
