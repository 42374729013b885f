-- list: flows of a partition, newest first, ties by id, last first.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      1 most to list, 2 workflow ('' for all), 3 and 4 the created ms and id that they come after ('' for none),
--           5.. where to look: active, completed, failed, cancelled; or quarantined alone, of whatever workflow
-- returns   {id, created ms, ended ms or '', m field, u field or ''} for each
-- errors    ORCHY: the arguments are wrong
--- @include "arguments"
local prefix, limit, workflow = KEYS[1], whole(1), ARGV[2]
local before_ms, before_id = ARGV[3] ~= '' and whole(3), ARGV[4]
local names = {workflow}
local quarantined = ARGV[5] == 'quarantined'
if quarantined then
  names = {''}
elseif workflow == '' then
  names = redis.call('SMEMBERS', prefix .. 'names')
end

-- Bytes decide, as they do in a sorted set: Lua's `<` asks the server's locale.
local function is_less(a, b)
  for i = 1, math.min(#a, #b) do
    local first, second = string.byte(a, i), string.byte(b, i)
    if first ~= second then
      return first < second
    end
  end
  return #a < #b
end

local function is_newer(a, b)
  if a.created ~= b.created then
    return a.created > b.created
  end
  return is_less(b.id, a.id)
end

local found = {}
for _, name in ipairs(names) do
  for i = 5, #ARGV do
    local index = quarantined and prefix .. 'u' or prefix .. 'i:' .. ARGV[i] .. ':' .. name
    local newest, oldest, ties = '+inf', '-inf', 0
    if before_ms then
      newest = before_ms
      ties = redis.call('ZCOUNT', index, before_ms, before_ms)
    end
    if #found == limit and limit > 0 then -- sorted: what is older than the last of them has no place
      oldest = found[limit].created
    end
    local flows = redis.call('ZREVRANGEBYSCORE', index, newest, oldest, 'WITHSCORES', 'LIMIT', 0, limit + ties)
    for j = 1, #flows, 2 do
      local flow = {id = flows[j], created = tonumber(flows[j + 1])}
      if not before_ms or flow.created < before_ms or is_less(flow.id, before_id) then
        found[#found + 1] = flow
      end
    end
    if #flows > 0 then
      table.sort(found, is_newer)
      for j = #found, limit + 1, -1 do
        found[j] = nil
      end
    end
  end
end

local listed = {}
for _, flow in ipairs(found) do
  local fields = redis.call('HMGET', prefix .. 'f:' .. flow.id, 'z', 'm', 'u')
  if fields[2] then
    listed[#listed + 1] = {flow.id, flow.created, fields[1] or '', fields[2], fields[3] or ''}
  end
end
return listed
