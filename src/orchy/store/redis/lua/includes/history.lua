-- Keeps a history within its limit: the oldest entries give way.
local function cap_history(history, length)
  if length > @HISTORY_ENTRIES_MAX@ then
    redis.call('LTRIM', history, -@HISTORY_ENTRIES_MAX@, -1)
  end
end
