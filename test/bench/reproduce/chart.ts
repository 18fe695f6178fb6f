/**
 * Charts as SVG text, one below the other: axes with round numbers, lines, dots with their spread, reference lines and
 * a legend. It needs no browser, and the same charts give the same bytes.
 */

export type Point = readonly [x: number, y: number]

export interface Curve {
  readonly name: string
  readonly points: readonly Point[]
  /** Dots, where the points are few and stand for themselves; a line when absent. */
  readonly as?: 'line' | 'dots' | 'dashes'
  /** Lowest and highest of each point. */
  readonly spread?: readonly Point[]
  /** Index into the colours; its own place when absent. Curves that belong together share one, and one name. */
  readonly colour?: number
}

export interface Axis {
  readonly label: string
  readonly logarithmic?: boolean
  readonly from?: number
  readonly to?: number
  /** Where the round numbers say nothing. */
  readonly ticks?: readonly number[]
}

export interface Chart {
  readonly title: string
  readonly x: Axis
  readonly y: Axis
  readonly curves: readonly Curve[]
  /** Horizontal lines with a name each. */
  readonly levels?: readonly { readonly name: string; readonly at: number }[]
}

const COLOURS = ['#2563eb', '#dc2626', '#059669', '#d97706', '#7c3aed', '#0891b2', '#be185d', '#4d7c0f']
const WIDTH = 760
const HEIGHT = 380
const LEFT = 70
const RIGHT = 190
const TOP = 36
const BOTTOM = 48
const TICKS = 6

export function svg(charts: readonly Chart[]): string {
  const height = HEIGHT * charts.length
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    ...charts.map((chart, i) => `<g transform="translate(0 ${HEIGHT * i})">\n${drawn(chart)}\n</g>`),
    '</svg>\n',
  ].join('\n')
}

function drawn({ title, x, y, curves, levels = [] }: Chart): string {
  const xs = curves.flatMap(({ points }) => points.map((point) => point[0]))
  const ys = [
    ...curves.flatMap(({ points, spread = [] }) => [...points.map((point) => point[1]), ...spread.flat()]),
    ...levels.map(({ at }) => at),
  ]
  const across = scale(x, xs, LEFT, WIDTH - RIGHT)
  const up = scale(y, ys, HEIGHT - BOTTOM, TOP)
  const right = WIDTH - RIGHT
  const bottom = HEIGHT - BOTTOM
  return [
    text(LEFT, 20, title, 'font-weight="bold" font-size="13"'),
    ...across.ticks.flatMap((tick) => [
      line(across.at(tick), TOP, across.at(tick), bottom, 'stroke="#eee"'),
      text(across.at(tick), bottom + 16, shown(tick), 'text-anchor="middle"'),
    ]),
    ...up.ticks.flatMap((tick) => [
      line(LEFT, up.at(tick), right, up.at(tick), 'stroke="#eee"'),
      text(LEFT - 6, up.at(tick) + 4, shown(tick), 'text-anchor="end"'),
    ]),
    `<rect x="${LEFT}" y="${TOP}" width="${right - LEFT}" height="${bottom - TOP}" fill="none" stroke="#999"/>`,
    text((LEFT + right) / 2, HEIGHT - 10, x.label, 'text-anchor="middle"'),
    text(16, (TOP + bottom) / 2, y.label, `text-anchor="middle" transform="rotate(-90 16 ${(TOP + bottom) / 2})"`),
    // Names of levels that lie close stand at either end.
    ...levels.flatMap(({ name, at }, i) => [
      line(LEFT, up.at(at), right, up.at(at), 'stroke="#666" stroke-dasharray="2 4"'),
      i % 2 === 0
        ? text(LEFT + 5, up.at(at) - 4, name, 'fill="#666"')
        : text(right - 5, up.at(at) - 4, name, 'fill="#666" text-anchor="end"'),
    ]),
    ...curves.flatMap((curve, i) => curveOf(curve, COLOURS[(curve.colour ?? i) % COLOURS.length], across.at, up.at)),
    ...legend(curves),
  ].join('\n')
}

type Place = (value: number) => number

function curveOf({ points, as = 'line', spread = [] }: Curve, colour: string, x: Place, y: Place): string[] {
  const bars = spread.map(([low, high], i) => {
    const at = x(points[i][0])
    return line(at, y(low), at, y(high), `stroke="${colour}" stroke-width="2" opacity="0.5"`)
  })
  const seen = points.filter((point) => point.every(Number.isFinite))
  if (as === 'dots') {
    const dots = seen.map((point) => `<circle cx="${px(x(point[0]))}" cy="${px(y(point[1]))}" r="4" fill="${colour}"/>`)
    return [...bars, ...dots]
  }
  const path = seen.map((point) => `${px(x(point[0]))},${px(y(point[1]))}`).join(' ')
  const dashes = as === 'dashes' ? ' stroke-dasharray="6 4"' : ''
  return [...bars, `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.5"${dashes}/>`]
}

/** Each name once, at the bottom right. */
function legend(curves: readonly Curve[]): string[] {
  const named = curves.map((curve, i) => ({ ...curve, colour: COLOURS[(curve.colour ?? i) % COLOURS.length] }))
  const once = named.filter(({ name }, i) => named.findIndex((other) => other.name === name) === i)
  const left = WIDTH - RIGHT + 8
  return once.flatMap(({ name, as, colour }, i) => {
    const y = HEIGHT - BOTTOM - 16 * (once.length - 1 - i) - 4
    const mark =
      as === 'dots'
        ? `<circle cx="${left + 8}" cy="${y}" r="4" fill="${colour}"/>`
        : line(
            left,
            y,
            left + 16,
            y,
            `stroke="${colour}" stroke-width="2"${as === 'dashes' ? ' stroke-dasharray="5 3"' : ''}`,
          )
    return [mark, text(left + 22, y + 4, name)]
  })
}

function scale(
  { logarithmic = false, from, to, ticks: given }: Axis,
  values: readonly number[],
  start: number,
  end: number,
) {
  const finite = values.filter((value) => Number.isFinite(value) && (!logarithmic || value > 0))
  let low = from ?? Math.min(...finite)
  let high = to ?? Math.max(...finite)
  if (finite.length === 0) [low, high] = [logarithmic ? 1 : 0, 1]
  if (low === high) [low, high] = logarithmic ? [low / 2, high * 2] : [low - 0.5, high + 0.5]
  const ticks = given ?? (logarithmic ? decades(low, high) : rounds(low, high))
  // An axis without bounds of its own begins and ends at a tick.
  if (from === undefined) low = Math.min(low, ticks[0])
  if (to === undefined) high = Math.max(high, ticks[ticks.length - 1])
  const along = logarithmic
    ? (value: number) => Math.log(Math.max(value, low) / low) / Math.log(high / low)
    : (value: number) => (value - low) / (high - low)
  return {
    ticks: ticks.filter((tick) => tick >= low && tick <= high),
    at: (value: number) => start + (end - start) * along(value),
  }
}

function rounds(low: number, high: number): number[] {
  const rough = (high - low) / TICKS
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!
  const first = Math.floor(low / step + 1e-9)
  const last = Math.ceil(high / step - 1e-9)
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)))
}

function decades(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low) + 1e-9)
  const last = Math.ceil(Math.log10(high) - 1e-9)
  const every = Math.ceil((last - first) / 8)
  // Within two decades the ones between help.
  const factors = last - first <= 2 ? [1, 2, 5] : [1]
  const ticks: number[] = []
  for (let power = first; power <= last; power += every) for (const factor of factors) ticks.push(factor * 10 ** power)
  const begin = ticks.findLastIndex((tick) => tick <= low * (1 + 1e-9))
  const end = ticks.findIndex((tick) => tick >= high * (1 - 1e-9))
  return ticks.slice(Math.max(0, begin), end < 0 ? undefined : end + 1).map((tick) => Number(tick.toPrecision(3)))
}

const px = (value: number): string => value.toFixed(1)
const shown = (value: number): string =>
  value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6) ? value.toExponential(0) : String(value)
const escaped = (words: string): string => words.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
const text = (x: number, y: number, words: string, more = ''): string =>
  `<text x="${px(x)}" y="${px(y)}" ${more}>${escaped(words)}</text>`
const line = (x1: number, y1: number, x2: number, y2: number, more: string): string =>
  `<line x1="${px(x1)}" y1="${px(y1)}" x2="${px(x2)}" y2="${px(y2)}" ${more}/>`
