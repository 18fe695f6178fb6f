/** Which run a volunteer that wants none in particular works on. */
import type { Introduction } from './roster.ts'
import type { Run } from './run.ts'

/**
 * The one it is on while that has work, else the running one with the smallest crowd. A trusted one goes on to
 * the next run that is to be looked at, in turn, when it has begun what it was granted here. `runs` newest first.
 */
export function assigned(
  { volunteer, trusted }: Introduction,
  current: Run | undefined,
  runs: readonly Run[],
): Run | undefined {
  if (trusted) return current?.wantsTrusted || current?.isToBegin(volunteer) ? current : nextWanting(current, runs)
  const [emptiest] = runs.filter(working).sort((a, b) => a.roster.crowd - b.roster.crowd)
  // Somebody who works moves only where that evens the crowds out: a new run gets its share, and nobody wavers.
  const even = current !== undefined && current.roster.crowd - (emptiest?.roster.crowd ?? 0) <= 1
  return even && working(current) ? current : (emptiest ?? current ?? runs[0])
}

const working = (run: Run): boolean => run.state === 'running' && !run.trained

function nextWanting(current: Run | undefined, runs: readonly Run[]): Run | undefined {
  const at = current === undefined ? 0 : runs.indexOf(current)
  return [...runs.slice(at), ...runs.slice(0, at)].find((run) => run.wantsTrusted) ?? current ?? runs[0]
}
