-- A queue entry is `<flowId>:<actionId>:<attempt>:<timeoutMs>:<action name>\n<body>`. Nothing for what is none.
local function parse_entry(entry)
  local flow_id, action_id, attempt, timeout_ms, name, body_at =
    string.match(entry, '^([^:\n]*):(%-?%d+):(%d+):(%d+):([^\n]*)\n()')
  return flow_id, action_id, attempt, tonumber(timeout_ms), name, body_at
end

local function push_entry(prefix, name, entry)
  if redis.call('RPUSH', prefix .. 'q:' .. name, entry) == 1 then
    redis.call('SADD', prefix .. 'ready', name)
  end
end
