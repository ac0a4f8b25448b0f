//! Scripts that many calls share, made once.

use std::sync::LazyLock;

use redis::Script;

/// Takes or keeps an entry of the index: an older epoch yields, the same holder stays, and what is
/// no entry at all is somebody else's and stays as it is. Answers what was done, and who holds it
/// otherwise.
///
/// Epochs are written with 20 digits, so that they compare as texts: numbers of scripts are exact
/// only to 2^53.
pub(crate) static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' then return {'foreign', ''} end
if found and found ~= ARGV[1] then
  local epoch, node = string.match(found, '^(%d+) %S+ (%S+)$')
  if not epoch or #epoch ~= 20 then return {'foreign', ''} end
  if epoch > ARGV[2] or (epoch == ARGV[2] and node ~= ARGV[3]) then
    return {'other', found}
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return {'held', ''}
",
    )
});

/// Clears an entry of the index if it is still exactly this one, never by its key alone.
pub(crate) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'string' and found == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
",
    )
});

/// Several rates at once, as the core counts them: all are asked before any is charged, and one
/// that refuses costs the others nothing. What is no bucket is somebody else's: it lets everybody
/// through and stays as it is. Answers {which refused or 0, wait in ms, now in us, which were
/// somebody else's}.
///
/// A bucket is when it was looked at (us) and how far from full it was then (ns): both are exact
/// in numbers of scripts, where nanoseconds since 1970 would not be. Arguments are two a key: what
/// one costs, and what the whole burst costs, in ns.
pub(crate) static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local used, which, wait, foreign = {}, 0, 0, {}
local function keep(i)
  local ms = math.ceil(used[i] / 1000000)
  redis.call('SET', KEYS[i], string.format('%.0f:%.0f', now, used[i]), 'PX', math.max(ms, 1))
end
for i = 1, #KEYS do
  local cost, refill = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local found = redis.pcall('GET', KEYS[i])
  local at, was
  if type(found) == 'string' then
    at, was = string.match(found, '^(%d+):(%d+)$')
  end
  used[i] = 0
  if found and not at then
    table.insert(foreign, i)
    used[i] = nil
  elseif at then
    used[i] = math.max(tonumber(was) - (now - tonumber(at)) * 1000, 0)
    if used[i] > refill then
      used[i] = refill
      keep(i)
    end
  end
  local over = (used[i] or 0) + cost - refill
  if over > 0 then
    local ms = math.max(math.ceil(over / 1000000), 1)
    if ms > wait then which, wait = i, ms end
  end
end
if which == 0 then
  for i = 1, #KEYS do
    if used[i] then
      used[i] = used[i] + tonumber(ARGV[2 * i - 1])
      keep(i)
    end
  end
end
return {which, wait, now, foreign}
",
    )
});
