/** A run's state as a word with a colour. */
import type { RunState as State } from '../../../shared/api.ts'

const MOODS: Record<State, string> = {
  draft: 'off',
  running: 'working',
  paused: 'waiting',
  finished: 'finished',
  failed: 'trouble',
}

export function RunState({ state }: { state: State }) {
  return (
    <span class="run-state">
      <span class={`dot ${MOODS[state]}`} aria-hidden="true" />
      {state}
    </span>
  )
}
