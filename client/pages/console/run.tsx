/**
 * One run: what it is and what can be done with it, its headline numbers, stages, curves, pictures, volunteers, and the
 * model to take away.
 */
import { useRef, useState } from 'preact/hooks'
import type { RunDetail } from '../../../shared/api.ts'
import { Curves, gapOf } from './curves.tsx'
import { bytes, count, duration, loss, NONE, percent, rate } from './figures.ts'
import type { ApiProblem, Operator } from './operator.ts'
import { Pictures } from './pictures.tsx'
import { RunState } from './run-state.tsx'
import { classifies, iterates, kindOf, trainerOf } from './stage-kind.ts'
import { Stages } from './stages.tsx'
import { Volunteers } from './volunteers.tsx'
import type { Watch } from './watch.ts'

interface RunProps {
  run: RunDetail
  operator: Operator
  watch: Watch
}

export function RunView({ run, operator, watch }: RunProps) {
  // The stage under way, unless another one was chosen.
  const [chosen, setChosen] = useState<string | null>(null)
  const stage = chosen ?? run.stage
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
      <Headline run={run} watch={watch} />
      {run.stages.length > 1 && (
        <Stages run={run} shown={stage} onShow={(next) => setChosen(next === run.stage ? null : next)} />
      )}
      <Curves run={run} stage={stage} watch={watch} />
      <Pictures run={run} operator={operator} watch={watch} />
      <Volunteers run={run} />
      <Take run={run} operator={operator} />
      <details class="panel spec">
        <summary>Specification</summary>
        <pre>{JSON.stringify(run.spec, null, 2)}</pre>
      </details>
    </article>
  )
}

function describe(run: RunDetail): string {
  const { model } = run.spec
  const { strategy, updateRule } = trainerOf(run, run.stage)
  // Strategies that iterate have their own step.
  const rule = iterates(run, run.stage) ? [] : [updateRule.name]
  return [model.template, `${count(run.parameters)} parameters`, strategy.name, ...rule].join(' · ')
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
          {busy === 'resume' ? 'Resuming…' : 'Resume'}
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

function Headline({ run, watch }: { run: RunDetail; watch: Watch }) {
  // As in the chart of the crowd: the coordinator's own volunteer evaluates and does not train.
  const crowd = run.volunteers.filter((volunteer) => !volunteer.trusted)
  const connected = crowd.filter((volunteer) => volunteer.connected).length
  const perExample = run.examples === 0 ? NONE : `${bytes(run.bytesUp / run.examples)} an example`
  return (
    <>
      <dl class="tiles headline">
        <Measure run={run} watch={watch} />
        <Tile
          name={iterates(run, run.stage) ? 'Iteration' : 'Epoch'}
          value={iterates(run, run.stage) ? count(run.epoch) : run.epoch.toFixed(2)}
          note={`of ${count(run.epochs)}`}
          share={run.epoch / run.epochs}
        />
        <Tile
          name="Examples a second"
          value={rate(run.state === 'running' ? run.examplesPerSecond : null)}
          note={`mean ${rate(run.seconds === 0 ? null : run.examples / run.seconds)}`}
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

/** What the stage under way is about, as its last test found it. */
function Measure({ run, watch }: { run: RunDetail; watch: Watch }) {
  const kind = kindOf(run, run.stage)
  if (kind === 'classify') {
    return <Tile name="Test accuracy" value={percent(run.testAccuracy)} note={`loss ${loss(run.testLoss)}`} />
  }
  const last = watch.curves(run.run).value.test.findLast(({ stage }) => stage === run.stage)
  const tested = last ?? { loss: null, measure: null }
  return kind === 'reconstruct' ? (
    <Tile name="Squared error" value={loss(tested.measure)} note={`cross-entropy ${loss(tested.loss)}`} />
  ) : (
    <Tile
      name="Reconstruction error"
      value={loss(tested.loss)}
      note={
        classifies(run, run.stage)
          ? `test accuracy ${percent(run.testAccuracy)}`
          : `free-energy gap ${loss(last === undefined ? null : gapOf(last))}`
      }
    />
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
