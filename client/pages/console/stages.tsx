/** The stages of a run in their order: which are done, which is under way and how far, and whose curves are shown. */
import type { RunDetail } from '../../../shared/api.ts'
import { count } from './figures.ts'
import { iterates, stageTitle } from './stage-kind.ts'

interface StagesProps {
  run: RunDetail
  /** The stage whose curves are shown. */
  shown: string
  onShow: (stage: string) => void
}

export function Stages({ run, shown, onShow }: StagesProps) {
  const now = run.stages.findIndex(({ name }) => name === run.stage)
  return (
    <nav class="stages" aria-label="Stages">
      <ol>
        {run.stages.map(({ name, epochs }, i) => {
          const unit = iterates(run, name) ? 'iterations' : 'epochs'
          const done = i < now || (i === now && run.state === 'finished' && run.epoch >= epochs)
          const share = done ? 1 : i === now ? Math.min(1, run.epoch / epochs) : 0
          const words = done
            ? `${count(epochs)} ${unit}, done`
            : i === now
              ? `${run.epoch.toFixed(2)} of ${count(epochs)} ${unit}`
              : `${count(epochs)} ${unit} planned`
          return (
            <li key={name}>
              <button
                type="button"
                class="stage"
                aria-pressed={name === shown}
                aria-current={i === now ? 'step' : undefined}
                disabled={i > now}
                onClick={() => onShow(name)}
              >
                <span class="stage-title">{stageTitle(name)}</span>
                <span class="stage-words">{words}</span>
                <span class="bar" aria-hidden="true">
                  <span style={{ width: `${100 * share}%` }} />
                </span>
              </button>
            </li>
          )
        })}
      </ol>
    </nav>
  )
}
