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

local function read(bucket)
  local all = redis.call('HGETALL', bucket)
  for nth = 1, #all, 2 do
    local value = all[nth + 1]
    out[#out + 1] = all[nth]
    if whole then
      out[#out + 1] = struct.pack('>I4', #value)
      out[#out + 1] = value
    else
      out[#out + 1] = string.sub(value, 1, 16)
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
