-- A queue entry is `<flowId>:<actionId>:<attempt>:<timeoutMs>:<action name>\n<body>`.
local function parse_entry(entry)
  local head_end = string.find(entry, '\n', 1, true)
  local flow_id, action_id, attempt, timeout_ms, name =
    string.match(string.sub(entry, 1, head_end - 1), '^([^:]*):([^:]*):([^:]*):([^:]*):(.*)$')
  return flow_id, action_id, attempt, tonumber(timeout_ms), name, head_end
end

local function push_entry(prefix, name, entry)
  redis.call('RPUSH', prefix .. 'q:' .. name, entry)
  redis.call('SADD', prefix .. 'ready', name)
end
