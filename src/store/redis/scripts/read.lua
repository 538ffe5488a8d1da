-- Reads a stretch of ids, whichever buckets hold them by now.
-- ARGV: depth, the first prefix of that depth, how many, whether whole values are wanted.
-- Returns: epoch, seq, then id, word and tag of the word of each (24 bytes), or id, length (4) and value of each, all in one string.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'depth', 'split', 'seq')
if not state[1] then
  return { '', 0, '' }
end
local depth, split = tonumber(state[2]), tonumber(state[3])
local asked, first, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local whole = ARGV[4] == '1'
local out = {}
local NO_WORD = string.rep('\0', 16)

local function read(bucket)
  local all = redis.call('HGETALL', bucket)
  for nth = 1, #all, 2 do
    local id, value = all[nth], all[nth + 1]
    -- Nobody is at what is no id. A value that is too short is no word, and its id is told.
    if #id == 8 then
      out[#out + 1] = id
      if whole then
        out[#out + 1] = struct.pack('>I4', #value)
        out[#out + 1] = value
      else
        out[#out + 1] = #value < 16 and string.sub(value .. NO_WORD, 1, 16) or string.sub(value, 1, 16)
      end
    end
  end
end

-- A partition that is shallower than asked is another one: the epoch tells.
if depth >= asked then
  local wide = 2 ^ (depth - asked)
  for prefix = first * wide, (first + count) * wide - 1 do
    if prefix < split then
      read(bucket_at(depth + 1, prefix * 2))
      read(bucket_at(depth + 1, prefix * 2 + 1))
    else
      read(bucket_at(depth, prefix))
    end
  end
end
return { state[1], tonumber(state[4]), table.concat(out) }
