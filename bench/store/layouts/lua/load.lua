-- load: a log, or its blocks and what comes after them.
--
-- KEYS      1 the partition's anchor, 2 the flow, 3 its blocks
-- returns   {log from the end of the blocks on, blocks}
local blocks = redis.call('GET', KEYS[3])
if blocks then
  return {redis.call('GETRANGE', KEYS[2], tonumber(string.sub(blocks, -15, -4)), -1), blocks}
end
return {redis.call('GET', KEYS[2]) or '', ''}
