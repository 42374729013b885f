-- A flow is a string of lines `[<ms>,<version>,[<fact>,...],"<tag>"]\n`; a removed one is '-' for a while. The tag of
-- the last line says which time-line the log is of, and how far it is.
local function tag_of(flow)
  return redis.call('GETRANGE', flow, -11, -4)
end

local function write(flow, commit, stamp, claims)
  redis.call('APPEND', flow, '[' .. stamp .. ',1,[' .. claims .. commit[4] .. '],"' .. commit[3] .. '"]\n')
end

local function bury(flow, remembered_ms)
  redis.call('SET', flow, '-', 'PX', remembered_ms)
end

-- APPEND reserves up to as much again. A BITOP of a key with itself leaves a string of just its length.
local function trim(flow)
  if redis.call('MEMORY', 'USAGE', flow) > redis.call('STRLEN', flow) + 250 then
    redis.call('BITOP', 'OR', flow, flow)
  end
end
