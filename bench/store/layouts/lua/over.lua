-- over: the head of retention lists, as far as it is due. Each list is of one retention, so its head is due first.
--
-- KEYS      a partition's anchor, then retention lists
-- ARGV      1 most entries of a list, 2 the lease's epoch, then the retention (ms) of each list
-- returns   for each list its entries that are due
--- @include "now"
local now = now_ms()
local over = {}
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[2] then
  return over
end
for number = 2, #KEYS do
  local due = {}
  for _, entry in ipairs(redis.call('LRANGE', KEYS[number], 0, ARGV[1] - 1)) do
    if string.match(entry, '^%d+') + ARGV[number + 1] > now then
      break
    end
    due[#due + 1] = entry
  end
  over[number - 1] = due
end
return over
