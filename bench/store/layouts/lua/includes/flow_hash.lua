-- A flow is a hash: `g` the tag of its last commit, its state, and `h<n>` for each line of its history.
local function tag_of(flow)
  return redis.call('HGET', flow, 'g') or ''
end

local function write(flow, commit, stamp, claims)
  local written, history = commit[4], commit[14]
  written[#written + 1] = 'g'
  written[#written + 1] = commit[3]
  for i, line in ipairs(history) do
    written[#written + 1] = 'h' .. (commit[15] + i)
    written[#written + 1] = stamp .. (i == 1 and claims or '') .. line
  end
  redis.call('HSET', flow, unpack(written))
  if commit[16] then
    redis.call('HDEL', flow, unpack(commit[16]))
  end
end

local function bury(flow, remembered_ms)
  redis.call('DEL', flow)
  redis.call('HSET', flow, 'g', '-')
  redis.call('PEXPIRE', flow, remembered_ms)
end

local function trim()
end
