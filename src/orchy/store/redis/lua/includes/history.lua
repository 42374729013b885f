-- Keeps a history within its limit: the oldest entries give way.
local function cap_history(history, length, entries_max)
  if length > entries_max then
    redis.call('LTRIM', history, -entries_max, -1)
  end
end
