/** One run: what it is and what can be done with it, its headline numbers, curves, volunteers, and the model to take away. */
import { useRef, useState } from 'preact/hooks'
import type { RunDetail } from '../../../shared/api.ts'
import { Chart } from './chart.tsx'
import { bytes, count, duration, loss, NONE, percent, rate } from './figures.ts'
import type { ApiProblem, Operator } from './operator.ts'
import { RunState } from './run-state.tsx'
import { Volunteers } from './volunteers.tsx'
import type { Watch } from './watch.ts'

interface RunProps {
  run: RunDetail
  operator: Operator
  watch: Watch
}

export function RunView({ run, operator, watch }: RunProps) {
  return (
    <article class="run">
      <header class="run-top">
        <div class="run-name">
          <h1>{run.name}</h1>
          <p class="quiet">
            <RunState state={run.state} />
            <span>{describe(run)}</span>
          </p>
        </div>
        <Actions run={run} operator={operator} watch={watch} />
      </header>
      {run.reason !== null && (run.state === 'paused' || run.state === 'failed') && (
        <p class={run.state === 'failed' ? 'reason grave' : 'reason'} role="status">
          <strong>{run.state === 'failed' ? 'Failed' : 'Paused'}:</strong> {run.reason}
        </p>
      )}
      <Headline run={run} />
      <Charts run={run} watch={watch} />
      <Volunteers run={run} />
      <Take run={run} operator={operator} />
      <details class="panel spec">
        <summary>Specification</summary>
        <pre>{JSON.stringify(run.spec, null, 2)}</pre>
      </details>
    </article>
  )
}

function describe({ spec, parameters, stage }: RunDetail): string {
  const phase = stage === 'train' ? [] : [`stage ${stage}`]
  return [
    spec.model.template,
    `${count(parameters)} parameters`,
    spec.strategy.name,
    spec.updateRule.name,
    ...phase,
  ].join(' · ')
}

// ---- what can be done ------------------------------------------------------------------------------------------

type Action = 'pause' | 'resume' | 'stop'

function Actions({ run, operator, watch }: RunProps) {
  const [busy, setBusy] = useState<Action | null>(null)
  const [problem, setProblem] = useState<ApiProblem | null>(null)
  const confirm = useRef<HTMLDialogElement>(null)

  const act = async (action: Action) => {
    setBusy(action)
    setProblem(null)
    const answer = await operator.post<RunDetail>(`/api/runs/${encodeURIComponent(run.run)}/${action}`)
    setBusy(null)
    if (answer.ok) watch.learn(answer.value)
    else setProblem(answer.problem)
  }

  if (run.state === 'finished' || run.state === 'failed') return null
  return (
    <div class="actions">
      {run.state === 'running' ? (
        <button type="button" class="button small" disabled={busy !== null} onClick={() => act('pause')}>
          {busy === 'pause' ? 'Pausing…' : 'Pause'}
        </button>
      ) : (
        <button type="button" class="button small primary" disabled={busy !== null} onClick={() => act('resume')}>
          {busy === 'resume' ? 'Starting…' : run.state === 'draft' ? 'Start' : 'Resume'}
        </button>
      )}
      <button
        type="button"
        class="button small danger"
        disabled={busy !== null}
        onClick={() => confirm.current?.showModal()}
      >
        {busy === 'stop' ? 'Stopping…' : 'Stop…'}
      </button>
      {problem !== null && (
        <p class="error" role="alert">
          {problem.message}
        </p>
      )}
      <dialog ref={confirm} class="confirm" aria-labelledby="confirm-title">
        <h2 id="confirm-title">Stop “{run.name}” for good?</h2>
        <p>It counts as finished and cannot go on afterwards. The model as it stands now can be downloaded.</p>
        <form method="dialog">
          <button type="submit" class="button small">
            Keep it running
          </button>
          <button type="submit" class="button small danger" onClick={() => act('stop')}>
            Stop the run
          </button>
        </form>
      </dialog>
    </div>
  )
}

// ---- numbers ---------------------------------------------------------------------------------------------------

function Headline({ run }: { run: RunDetail }) {
  // As in the chart of the crowd: the coordinator's own volunteer evaluates and does not train.
  const crowd = run.volunteers.filter((volunteer) => !volunteer.trusted)
  const connected = crowd.filter((volunteer) => volunteer.connected).length
  const perExample = run.examples === 0 ? NONE : `${bytes(run.bytesUp / run.examples)} an example`
  return (
    <>
      <dl class="tiles headline">
        <Tile name="Test accuracy" value={percent(run.testAccuracy)} note={`loss ${loss(run.testLoss)}`} />
        <Tile
          name="Epoch"
          value={run.epoch.toFixed(2)}
          note={`of ${count(run.epochs)}`}
          share={run.epoch / run.epochs}
        />
        <Tile
          name="Examples a second"
          value={rate(run.state === 'running' ? run.examplesPerSecond : null)}
          note={`train loss ${loss(run.trainLoss)}`}
        />
        <Tile
          name="Volunteers"
          value={count(connected)}
          note={connected === crowd.length ? 'connected' : `connected of ${count(crowd.length)}`}
        />
      </dl>
      <dl class="ledger">
        <Entry name="Examples" value={count(run.examples)} />
        <Entry name="Updates" value={`${count(run.updatesAccepted)} accepted, ${count(run.updatesRefused)} refused`} />
        <Entry name="Mean staleness" value={run.meanStaleness.toFixed(1)} />
        <Entry name="Versions" value={count(run.versions)} />
        <Entry name="Received" value={`${bytes(run.bytesUp)} (${perExample})`} />
        <Entry name="Sent" value={bytes(run.bytesDown)} />
        <Entry name="Time running" value={duration(run.seconds)} />
      </dl>
    </>
  )
}

function Tile(props: { name: string; value: string; note: string; share?: number }) {
  return (
    <div class="tile">
      <dt>{props.name}</dt>
      <dd>{props.value}</dd>
      <dd class="note">{props.note}</dd>
      {props.share !== undefined && (
        <dd class="bar" aria-hidden="true">
          <span style={{ width: `${Math.min(100, props.share * 100)}%` }} />
        </dd>
      )}
    </div>
  )
}

function Entry({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  )
}

// ---- curves ----------------------------------------------------------------------------------------------------

function Charts({ run, watch }: { run: RunDetail; watch: Watch }) {
  const { train, test, complete, problem } = watch.curves(run.run).value
  const [logarithmic, setLogarithmic] = useState(false)
  if (problem !== null && train.length === 0) {
    return <p class="panel empty">The curves could not be loaded: {problem.message}</p>
  }
  const empty = !complete
    ? 'Loading…'
    : run.state === 'running'
      ? 'The first point appears with the first accepted update.'
      : 'Nothing was computed yet.'
  return (
    <section class="charts" aria-label="Curves">
      <Chart
        title="Loss"
        empty={empty}
        format={(value) => value.toPrecision(3)}
        scale={logarithmic ? 'logarithmic' : 'linear'}
        curves={[
          { name: 'train', colour: '--pen', points: train.map(({ seconds, loss }) => [seconds, loss]) },
          { name: 'test', colour: '--amber', sparse: true, points: test.map(({ seconds, loss }) => [seconds, loss]) },
        ]}
        tool={
          <label class="check">
            <input
              type="checkbox"
              checked={logarithmic}
              onChange={(event) => setLogarithmic(event.currentTarget.checked)}
            />
            Log scale
          </label>
        }
      />
      <Chart
        title="Accuracy"
        empty={empty}
        format={(value) => percent(value, 1)}
        scale="share"
        curves={[
          { name: 'train', colour: '--pen', points: train.map(({ seconds, accuracy }) => [seconds, accuracy]) },
          {
            name: 'test',
            colour: '--amber',
            sparse: true,
            points: test.map(({ seconds, accuracy }) => [seconds, accuracy]),
          },
        ]}
      />
      <Chart
        title="Examples a second"
        empty={empty}
        format={count}
        scale="from-zero"
        curves={[
          {
            name: 'all volunteers',
            colour: '--pen',
            filled: true,
            points: train.map((point) => [point.seconds, point.examplesPerSecond]),
          },
        ]}
      />
      <Chart
        title="Crowd"
        empty={empty}
        format={(value) => value.toFixed(1).replace('.0', '')}
        scale="from-zero"
        curves={[
          {
            name: 'volunteers',
            colour: '--pen',
            points: train.map(({ seconds, volunteers }) => [seconds, volunteers]),
          },
          { name: 'staleness', colour: '--amber', points: train.map(({ seconds, staleness }) => [seconds, staleness]) },
        ]}
      />
    </section>
  )
}

// ---- the model -------------------------------------------------------------------------------------------------

function Take({ run, operator }: { run: RunDetail; operator: Operator }) {
  const [busy, setBusy] = useState<string | null>(null)
  const [problem, setProblem] = useState<ApiProblem | null>(null)

  const take = async (files: string[]) => {
    setBusy(files[0])
    setProblem(null)
    for (const file of files) {
      const answer = await operator.download(`/api/runs/${encodeURIComponent(run.run)}/${file}`, file)
      if (!answer.ok) {
        setProblem(answer.problem)
        break
      }
    }
    setBusy(null)
  }

  return (
    <section class="panel take" aria-labelledby="take-title">
      <div>
        <h2 id="take-title">The model</h2>
        <p class="quiet">
          As it stands at version {count(run.versions)}
          {run.state === 'running' ? ', while the training goes on' : ''}.
        </p>
      </div>
      <div class="take-buttons">
        <button type="button" class="button small" disabled={busy !== null} onClick={() => take(['model.safetensors'])}>
          {busy === 'model.safetensors' ? 'Fetching…' : 'safetensors'}
        </button>
        <button
          type="button"
          class="button small"
          disabled={busy !== null}
          onClick={() => take(['model.json', 'model.weights.bin'])}
        >
          {busy === 'model.json' ? 'Fetching…' : 'TensorFlow.js (2 files)'}
        </button>
      </div>
      {problem !== null && (
        <p class="error" role="alert">
          {problem.message}
        </p>
      )}
    </section>
  )
}
