// Sizes and times in the words that the server uses: cachemgr/units.py.

const UNITS = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];

export function bytes(count) {
  const found = UNITS.find(([step]) => Math.abs(count) >= step * 0.9995);
  if (!found) return `${count.toFixed(0)} B`;
  const value = count / found[0];
  return `${value.toFixed(Math.abs(value) >= 99.95 ? 0 : 1)} ${found[1]}`;
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

export function ago(moment) {
  return `${duration(Math.max(0, (Date.now() - moment.getTime()) / 1000))} ago`;
}
