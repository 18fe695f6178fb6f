/**
 * The sheet of handwritten digits: of every hundred that the model is tested on, as many are inked as it reads
 * correctly. The same cells stay inked while the accuracy grows, so progress is seen as ink spreading.
 */
import { useEffect, useState } from 'preact/hooks'

/** One pen stroke or two for each digit, in a box of 20 by 24. */
const STROKES = [
  'M10.4 3C5.5 3 4 8 4.2 12.5 4.5 18 7 21 10 21c4 0 6-4.5 6-9.5C16 6.5 14 3 9.6 3.2',
  'M7 6.8L11.2 3 10.2 21',
  'M5 7.5C5.5 4 8 3 10.5 3c3.5 0 5 2.5 4.3 5.5C13.8 12.5 8 17 5 20.5c3.5-.8 7-.7 11-.2',
  'M5.5 5C8 2.5 14 2.5 14 6.5c0 3-3 4.3-5 4.6 3.5 0 6.5 1.5 6.3 5C15 21 8 22.5 4.5 19',
  'M8 3C7 7 5.5 10.5 4.5 13.5c4 .4 8 .3 11.5-.2M13 7c-.3 5-.6 9.5-1 14.5',
  'M15 3.5c-2.5.3-5 .4-7.5.2C7 6.5 6.5 9 6.2 11c3-1.8 9-1.5 9.3 4 .2 5-6.5 7.5-10.7 4.5',
  'M13.5 3C8.5 5.5 5 11 5 15.5 5 19 7 21.2 10 21.2c3.3 0 5.5-2.3 5.5-5C15.5 13.5 13.5 12 11 12c-2.5 0-4.8 1.5-5.7 4',
  'M4.5 4c4 .5 8 .3 11.5-.3C12.5 9 10.5 14.5 9 21.5M7 12.7c2.3-.4 4.6-.5 7-.3',
  'M14.5 6C14 3.5 11.5 2.6 9.5 3 6.5 3.5 5.5 6.5 7.5 8.8c2 2.2 6.5 4 7 7.7.5 3.5-2.5 5-5 4.8-3-.2-5-2.3-4.3-5C6 13 10.5 11.5 13 9c1-1 1.6-2 1.5-3',
  'M15 7C14.5 4 11.5 2.5 8.8 3.5 5.5 4.7 5 9.5 7.8 11c2.8 1.4 6.5-.8 7.2-4 0 5-.7 10-2 14.5',
]

interface Cell {
  path: string
  transform: string
  width: number
  /** The cell is inked once more than so many of a hundred are read. */
  rank: number
}

const CELLS = sheet()

/** A fixed sheet: 100 digits, each in a hand of its own, and the order in which they get their ink. */
function sheet(): Cell[] {
  let state = 20260
  const draw = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  const ranks = Array.from({ length: 100 }, (_, i) => i)
  for (let i = 99; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1))
    ;[ranks[i], ranks[j]] = [ranks[j], ranks[i]]
  }
  return ranks.map((rank) => ({
    path: STROKES[Math.floor(draw() * 10)],
    transform: `rotate(${(draw() * 26 - 13).toFixed(1)} 10 12) skewX(${(draw() * -12).toFixed(1)}) scale(${(0.82 + draw() * 0.2).toFixed(2)})`,
    width: 1.6 + draw() * 1.1,
    rank,
  }))
}

/** The pen moves on to another digit so often while this tab computes. */
const GLANCE_MS = 900

export function DigitSheet(props: { accuracy: number | null; columns: number; working: boolean }) {
  const { accuracy, columns, working } = props
  const glance = useGlance(working)
  const inked = accuracy === null ? 0 : Math.floor(accuracy * 100 + 1e-9)
  const rows = 100 / columns
  const label =
    accuracy === null
      ? 'A sheet of a hundred handwritten digits'
      : `${inked} of a hundred handwritten digits are inked: those it reads`
  return (
    <svg class="sheet" viewBox={`0 0 ${columns * 26} ${rows * 30}`} role="img" aria-label={label}>
      {CELLS.map((cell, i) => (
        <g key={cell.rank} transform={`translate(${(i % columns) * 26 + 3} ${Math.floor(i / columns) * 30 + 3})`}>
          <path
            class={`digit${cell.rank < inked ? ' inked' : ''}${i === glance ? ' glanced' : ''}`}
            d={cell.path}
            transform={cell.transform}
            stroke-width={cell.width}
          />
        </g>
      ))}
    </svg>
  )
}

/** The cell being looked at, another one every moment; none at rest or where motion is not wanted. */
function useGlance(working: boolean): number | null {
  const [glance, setGlance] = useState<number | null>(null)
  useEffect(() => {
    if (!working || matchMedia('(prefers-reduced-motion: reduce)').matches) return
    const timer = setInterval(() => setGlance(Math.floor(Math.random() * 100)), GLANCE_MS)
    return () => {
      clearInterval(timer)
      setGlance(null)
    }
  }, [working])
  return glance
}
