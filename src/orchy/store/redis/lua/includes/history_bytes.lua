-- Cuts a history to its newest entries that come to at most so many bytes without their times, and to its very newest
-- at least; the bytes that are left.
local function cut_history(history, bytes_max)
  local kept, bytes = 0, 0
  while true do
    local lines = redis.call('LRANGE', history, -kept - 100, -kept - 1)
    for i = #lines, 1, -1 do
      local size = #lines[i] - string.find(lines[i], ' ', 1, true)
      if kept > 0 and bytes + size > bytes_max then
        redis.call('LTRIM', history, -kept, -1)
        return bytes
      end
      kept, bytes = kept + 1, bytes + size
    end
    if #lines < 100 then
      return bytes
    end
  end
end
