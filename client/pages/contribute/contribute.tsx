/**
 * The contribute page: what this is, one button, and after the click what this tab does, what the crowd has
 * reached, and why nothing happens when nothing happens.
 */
import { useEffect } from 'preact/hooks'
import type { Progress } from '../../../shared/protocol.ts'
import { type Contribution, isRunning } from '../contribution.ts'
import { DigitSheet } from '../digits.tsx'
import { Mark } from '../mark.tsx'
import { count, others, PURPOSE, passes, right, speed, type Telling, tell } from '../words.ts'

export function Contribute({ contribution }: { contribution: Contribution }) {
  const status = contribution.status.value
  const counts = contribution.counts.value
  const running = isRunning(status)
  const telling = tell(status, counts)
  const progress = status?.progress ?? null

  useEffect(() => {
    document.title = status === null ? 'Crowdgrad: help train a neural network' : `${telling.headline} · Crowdgrad`
  }, [status === null, telling.headline])

  return (
    <div class="page">
      <header class="top">
        <Mark />
      </header>
      <main class="contribute">
        <div class="contribute-words">
          {status === null ? <Invitation /> : <Story telling={telling} />}
          <div class="act">
            <button
              type="button"
              class={`button large ${running ? '' : 'primary'}`}
              onClick={running ? contribution.stop : contribution.start}
            >
              {running ? 'Stop' : status === null ? 'Start helping' : 'Start again'}
            </button>
            {status === null && <p class="hint">{telling.detail}</p>}
          </div>
          {status !== null && (
            <dl class="tiles">
              <Tile name="Examples computed" value={count(counts.examples)} />
              <Tile
                name="Updates accepted"
                value={count(counts.updatesAccepted)}
                note={counts.updatesRefused > 0 ? `${count(counts.updatesRefused)} not used` : undefined}
              />
              <Tile
                name="Examples a second"
                value={speed(running ? status.examplesPerSecond : null)}
                note={status.device ?? undefined}
              />
            </dl>
          )}
        </div>
        <Model progress={progress} begun={status !== null} running={running} working={status?.state === 'working'} />
      </main>
      <Facts contribution={contribution} running={running} />
    </div>
  )
}

function Invitation() {
  return (
    <>
      <h1>Help a neural network learn to read</h1>
      <p class="lead">
        {PURPOSE} Many devices share the work, and yours does a small part of it: no account, nothing to install.
      </p>
    </>
  )
}

function Story({ telling }: { telling: Telling }) {
  return (
    <div class="story" role="status">
      <h1 class="state">
        <span class={`dot ${telling.mood}`} aria-hidden="true" />
        {telling.headline}
      </h1>
      <p class="lead">{telling.detail}</p>
    </div>
  )
}

function Tile(props: { name: string; value: string; note?: string }) {
  return (
    <div class="tile">
      <dt>{props.name}</dt>
      <dd>{props.value}</dd>
      {props.note !== undefined && <dd class="note">{props.note}</dd>}
    </div>
  )
}

/** The sheet of digits, and under it how far the crowd has brought the model. */
function Model(props: { progress: Progress | null; begun: boolean; running: boolean; working: boolean }) {
  const { progress, begun, running, working } = props
  const accuracy = progress?.accuracy ?? null
  return (
    <section class="model" aria-label="The model so far">
      <DigitSheet accuracy={accuracy} columns={10} working={working} />
      {accuracy !== null ? (
        <p class="reads">
          It {running ? 'now gets' : 'got'} <strong>{right(accuracy)}</strong> right
        </p>
      ) : begun ? (
        <p class="reads quiet">{progress ? 'It has not been tested yet' : 'A hundred digits to learn from'}</p>
      ) : (
        <p class="reads quiet">Each digit it learns to read turns to ink</p>
      )}
      {progress && (
        <>
          <progress class="passes" value={progress.epoch} max={progress.epochs} aria-label="Progress of the training" />
          <p class="crowd">
            <span>{passes(progress)}</span>
            {running && progress.state === 'running' && <span>{others(progress.volunteers)}</span>}
          </p>
        </>
      )}
    </section>
  )
}

function Facts({ contribution, running }: { contribution: Contribution; running: boolean }) {
  return (
    <section class="facts" aria-label="What this does on your device">
      <div>
        <h2>What it uses</h2>
        <p>
          Your graphics chip or your processor, only while this page is open. Your device may get warm, and a battery
          drains faster.
        </p>
      </div>
      <div>
        <h2>What is sent</h2>
        <p>
          Results of arithmetic on the images that the training hands out, and the name of the chip that did it. Nothing
          of yours is read.
        </p>
      </div>
      <div>
        <h2>What is kept</h2>
        <p>
          One random identity in this browser, so that you are the same helper when you come back.
          {contribution.remembered.value && !running && (
            <>
              {' '}
              <button type="button" class="link" onClick={contribution.forget}>
                Forget it
              </button>
            </>
          )}
        </p>
      </div>
    </section>
  )
}
