-- list: flows of a partition, newest first, ties by id.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 most to list, 2 workflow ('' for all), 3 and 4 the created ms and id that they come after ('' for none),
--           5.. where to look: active, completed, failed, cancelled
-- returns   {id, created ms, ended ms or '', m field} for each
local prefix, limit, workflow = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local before_ms, before_id = ARGV[3], ARGV[4]
local names = {workflow}
if workflow == '' then
  names = redis.call('SMEMBERS', prefix .. 'names')
end
local found = {}
for _, name in ipairs(names) do
  for i = 5, #ARGV do
    local index = prefix .. 'i:' .. ARGV[i] .. ':' .. name
    local from, ties = '+inf', 0
    if before_ms ~= '' then
      from = before_ms
      ties = redis.call('ZCOUNT', index, before_ms, before_ms)
    end
    local flows = redis.call('ZREVRANGEBYSCORE', index, from, '-inf', 'WITHSCORES', 'LIMIT', 0, limit + ties)
    for j = 1, #flows, 2 do
      if before_ms == '' or tonumber(flows[j + 1]) < tonumber(before_ms) or flows[j] < before_id then
        found[#found + 1] = {flows[j], flows[j + 1]}
      end
    end
  end
end
table.sort(found, function(a, b)
  local first, second = tonumber(a[2]), tonumber(b[2])
  if first ~= second then
    return first > second
  end
  return a[1] > b[1]
end)
local listed = {}
for i = 1, math.min(limit, #found) do
  local fields = redis.call('HMGET', prefix .. 'f:' .. found[i][1], 'z', 'm')
  if fields[2] then
    listed[#listed + 1] = {found[i][1], found[i][2], fields[1] or '', fields[2]}
  end
end
return listed
