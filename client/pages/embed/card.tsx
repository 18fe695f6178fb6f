/** The compact card of the widget: the question, one button, and how it goes. It stays calm on somebody else's page. */
import { type Contribution, isRunning } from '../contribution.ts'
import { DigitSheet } from '../digits.tsx'
import { Mark } from '../mark.tsx'
import { count, others, right, tell } from '../words.ts'

export function Card({ contribution }: { contribution: Contribution }) {
  const status = contribution.status.value
  const counts = contribution.counts.value
  const running = isRunning(status)
  const telling = tell(status, counts)
  const progress = status?.progress ?? null
  const accuracy = progress?.accuracy ?? null

  return (
    <main class="card">
      <div class="card-top">
        <Mark href="/" newTab />
        <button
          type="button"
          class={`button small ${running ? '' : 'primary'}`}
          onClick={running ? contribution.stop : contribution.start}
        >
          {running ? 'Stop' : status === null ? 'Start' : 'Start again'}
        </button>
      </div>
      {status === null ? (
        <p class="card-words">
          May this page use your device to help train a neural network that reads handwritten digits?{' '}
          <span class="quiet">{telling.detail}</span>
        </p>
      ) : (
        <div class="card-words" role="status">
          <p class="state">
            <span class={`dot ${telling.mood}`} aria-hidden="true" />
            {telling.headline}
          </p>
          <p class="quiet">{telling.detail}</p>
        </div>
      )}
      <DigitSheet accuracy={accuracy} columns={25} working={status?.state === 'working'} />
      <p class="card-foot">
        {accuracy !== null ? (
          <span>
            Reads <strong>{right(accuracy)}</strong>
          </span>
        ) : (
          <span>{status === null ? 'Your device may get warm' : 'Not tested yet'}</span>
        )}
        {running && progress?.state === 'running' && <span>{others(progress.volunteers)}</span>}
        {status !== null && !running && counts.updatesAccepted > 0 && (
          <span>{count(counts.updatesAccepted)} updates accepted</span>
        )}
      </p>
    </main>
  )
}
