/** Where a reproduction keeps what it makes. A smoke test keeps everything in its data folder and touches no page. */
import { join } from 'node:path'

export interface Places {
  /** The runs: a folder a trial. Ignored by git. */
  readonly data: string
  /** A JSON file a row, and in `choices/` one a grid. Committed. */
  readonly results: string
  readonly plots: string
  /** The page with the table, and how it names the plots' folder. */
  readonly page: string
  readonly plotsFromPage: string
}

const BENCH = join(import.meta.dirname, '..')

export function placesOf(data: string, quick: boolean): Places {
  const base = quick ? data : join(BENCH, 'reproduce')
  return {
    data,
    results: join(base, 'results'),
    plots: join(base, 'plots'),
    page: join(quick ? data : BENCH, 'RESULTS.md'),
    plotsFromPage: quick ? 'plots' : 'reproduce/plots',
  }
}
