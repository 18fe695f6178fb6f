/** How the console writes numbers down: shares, sizes, durations, counts. */

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 })

export const NONE = '–'

export function count(value: number): string {
  return value < 1_000_000 ? whole.format(value) : short.format(value)
}

export function percent(share: number | null, digits = 2): string {
  return share === null ? NONE : `${(share * 100).toFixed(digits)} %`
}

export function loss(value: number | null): string {
  return value === null ? NONE : value.toPrecision(3)
}

export function rate(examplesPerSecond: number | null): string {
  if (examplesPerSecond === null) return NONE
  return examplesPerSecond < 10 ? examplesPerSecond.toFixed(1) : count(examplesPerSecond)
}

/** 1.2 kB, 34 MB: powers of a thousand, as networks count. */
export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3))
  const scaled = value / 1000 ** power
  return `${power === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[power]}`
}

/** 42 s, 3 min 05 s, 2 h 14 min. */
export function duration(seconds: number): string {
  const total = Math.round(seconds)
  if (total < 60) return `${total} s`
  if (total < 3600) return `${Math.floor(total / 60)} min ${pad(total % 60)} s`
  return `${whole.format(Math.floor(total / 3600))} h ${pad(Math.floor(total / 60) % 60)} min`
}

/** For an axis: 0:42, 3:05, 2:14:00. */
export function clock(seconds: number): string {
  const total = Math.round(seconds)
  const minutes = Math.floor(total / 60) % 60
  if (total < 3600) return `${minutes}:${pad(total % 60)}`
  return `${Math.floor(total / 3600)}:${pad(minutes)}:${pad(total % 60)}`
}

/** How long ago, roughly: "just now", "4 min ago". */
export function ago(time: string, now = Date.now()): string {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000)
  if (seconds < 45) return 'just now'
  if (seconds < 3600) return `${Math.round(seconds / 60) || 1} min ago`
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h ago`
  return new Date(time).toLocaleDateString('en', { day: 'numeric', month: 'short', year: 'numeric' })
}

function pad(value: number): string {
  return String(value).padStart(2, '0')
}
