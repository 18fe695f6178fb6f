/**
 * One chart over the seconds a run has been running, or over its iterations. uPlot draws; the title, the legend with
 * the values under the pointer (the newest ones at rest) and the words for who cannot see it are ours. All charts over
 * time share one pointer.
 */
import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import uPlot from 'uplot'
import { clock, NONE } from './figures.ts'

export interface Curve {
  name: string
  /** A custom property of the stylesheet. */
  colour: '--pen' | '--amber'
  /** Few points, each worth seeing. */
  sparse?: boolean
  filled?: boolean
  points: [at: number, value: number][]
}

type Axis = 'seconds' | 'iterations'

interface ChartProps {
  title: string
  curves: Curve[]
  format: (value: number) => string
  scale: 'linear' | 'logarithmic' | 'share' | 'from-zero'
  /** What lies across: seconds when absent. */
  axis?: Axis
  /** Said in place of an empty chart. */
  empty: string
  tool?: ComponentChildren
}

const HEIGHT = 200
/** More points than this have no room for a dot each. */
const MOST_DOTS = 40

export function Chart({ title, curves, format, scale, axis = 'seconds', empty, tool }: ChartProps) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const [under, setUnder] = useState<number | null>(null)
  const theme = useTheme()
  const table = align(curves)
  const hasPoints = table[0].length > 0

  useEffect(() => {
    if (!hasPoints) return
    const frame = box.current!
    const made = new uPlot(optionsOf(frame, curves, format, scale, axis, setUnder), table, frame)
    plot.current = made
    const watchWidth = new ResizeObserver(() => made.setSize({ width: frame.clientWidth, height: HEIGHT }))
    watchWidth.observe(frame)
    return () => {
      watchWidth.disconnect()
      made.destroy()
      plot.current = null
    }
  }, [hasPoints, scale, theme])

  useEffect(() => plot.current?.setData(table))

  const values = curves.map((curve, i) => {
    const value =
      under === null ? curve.points.at(-1)?.[1] : nearest(table[i + 1] as (number | null | undefined)[], under)
    return value == null ? NONE : format(value)
  })
  return (
    <figure class="panel chart">
      <figcaption>
        <h2>{title}</h2>
        <span class="legend">
          {curves.map((curve, i) => (
            <span key={curve.name} class="legend-entry">
              <span class="swatch" style={{ background: `var(${curve.colour})` }} aria-hidden="true" />
              {curve.name} <b>{values[i]}</b>
            </span>
          ))}
          {under !== null && table[0][under] !== undefined && <span>at {across(table[0][under], axis)}</span>}
        </span>
        {tool}
      </figcaption>
      {hasPoints ? (
        <div
          ref={box}
          class="plot"
          role="img"
          aria-label={`${title}${axis === 'seconds' ? ' over time' : ''}. ${curves.map((curve, i) => `${curve.name}: ${values[i]}`).join(', ')}.`}
        />
      ) : (
        <p class="plot plot-empty">{empty}</p>
      )}
    </figure>
  )
}

/** One table of all curves over the union of their seconds; undefined marks a place that only another curve has. */
function align(curves: Curve[]): uPlot.AlignedData {
  const tables = curves.map(
    ({ points }) => [points.map((point) => point[0]), points.map((point) => point[1])] as uPlot.AlignedData,
  )
  return tables.length === 1 ? tables[0] : uPlot.join(tables)
}

/** The value at a place, or the last one before it. */
function nearest(column: (number | null | undefined)[], at: number): number | null {
  for (let i = Math.min(at, column.length - 1); i >= 0; i--) {
    const value = column[i]
    if (value != null) return value
  }
  return null
}

function filledIn(column: ArrayLike<number | null | undefined>): number {
  let filled = 0
  for (let i = 0; i < column.length; i++) if (column[i] != null) filled++
  return filled
}

function optionsOf(
  frame: HTMLElement,
  curves: Curve[],
  format: (value: number) => string,
  scale: ChartProps['scale'],
  across: Axis,
  onPointer: (index: number | null) => void,
): uPlot.Options {
  const colour = (name: string) => {
    // Resolved by the browser, so that light-dark() and var() come out as a colour that a canvas takes.
    frame.style.color = `var(${name})`
    const resolved = getComputedStyle(frame).color
    frame.style.color = ''
    return resolved
  }
  const axis: uPlot.Axis = {
    stroke: colour('--ink-soft'),
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
    font: '12px system-ui, sans-serif',
    gap: 6,
  }
  const x: uPlot.Axis =
    across === 'seconds'
      ? { space: 64, incrs: SECONDS, values: (_plot, ticks) => ticks.map(clock) }
      : { space: 48, incrs: COUNTS, values: (_plot, ticks) => ticks.map(String) }
  return {
    width: frame.clientWidth,
    height: HEIGHT,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: across }, drag: { x: false, y: false }, points: { size: 7 }, y: false },
    scales: { x: { time: false }, y: rangeOf(scale) },
    axes: [
      { ...axis, ...x, size: 28 },
      {
        ...axis,
        size: 52,
        space: 36,
        values: (_plot, ticks) => ticks.map((tick) => (tick == null ? '' : label(tick, scale, format))),
      },
    ],
    series: [
      {},
      ...curves.map((curve) => {
        const stroke = colour(curve.colour)
        return {
          label: curve.name,
          stroke,
          width: 1.75,
          spanGaps: true,
          points: {
            // A single point has no line yet.
            show: (plot: uPlot, series: number) =>
              filledIn(plot.data[series]) <= (curve.sparse === true ? MOST_DOTS : 1),
            size: 6,
            fill: stroke,
          },
          ...(curve.filled ? { fill: withAlpha(stroke, 0.12) } : {}),
        }
      }),
    ],
    hooks: { setCursor: [(plot) => onPointer(plot.cursor.idx ?? null)] },
  }
}

/** Steps of the time axis that people count in. */
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400]

const COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000]

function across(at: number, axis: Axis): string {
  return axis === 'seconds' ? clock(at) : `iteration ${at}`
}

function rangeOf(scale: ChartProps['scale']): uPlot.Scale {
  switch (scale) {
    case 'logarithmic':
      return { distr: 3 }
    case 'linear':
      return { range: { min: { pad: 0.1, soft: 0, mode: 1 }, max: { pad: 0.1 } } }
    case 'share':
      return {
        range: (_plot, low, high) =>
          low === high
            ? [Math.max(0, low - 0.05), Math.min(1, high + 0.05)]
            : [Math.max(0, low - (high - low) * 0.1), Math.min(1, high + (high - low) * 0.1)],
      }
    case 'from-zero':
      return { range: (_plot, _low, high) => [0, Math.max(1, high * 1.15)] }
  }
}

function label(tick: number, scale: ChartProps['scale'], format: (value: number) => string): string {
  if (scale === 'share') return `${Math.round(tick * 1000) / 10} %`
  if (scale === 'from-zero') return format(tick)
  return String(Number(tick.toPrecision(3)))
}

function withAlpha(colour: string, alpha: number): string {
  return colour.replace('rgb(', 'rgba(').replace(')', `, ${alpha})`)
}

/** Changes when the visitor's light or dark setting does: a canvas does not follow by itself. */
function useTheme(): boolean {
  const query = matchMedia('(prefers-color-scheme: dark)')
  const [dark, setDark] = useState(query.matches)
  useEffect(() => {
    const follow = () => setDark(query.matches)
    query.addEventListener('change', follow)
    return () => query.removeEventListener('change', follow)
  }, [])
  return dark
}
