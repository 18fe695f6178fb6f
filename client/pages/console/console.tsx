/**
 * The console's frame: the runs at the side, the chosen one beside them (on a phone one of the two), and above
 * everything whether what is shown is live. The address after # says what is open: #/new, #/run/<id>.
 */
import { signal } from '@preact/signals'
import type { RunDetail } from '../../../shared/api.ts'
import { Mark } from '../mark.tsx'
import { Draft } from './draft.tsx'
import { ago, percent } from './figures.ts'
import type { Operator } from './operator.ts'
import { RunView } from './run.tsx'
import { RunState } from './run-state.tsx'
import type { Link, Watch } from './watch.ts'

type View = { name: 'list' } | { name: 'new' } | { name: 'run'; run: string }

const view = signal<View>(viewOf(location.hash))
addEventListener('hashchange', () => {
  view.value = viewOf(location.hash)
})

function viewOf(hash: string): View {
  if (hash === '#/new') return { name: 'new' }
  if (hash.startsWith('#/run/')) return { name: 'run', run: decodeURIComponent(hash.slice('#/run/'.length)) }
  return { name: 'list' }
}

function addressOf(run: string): string {
  return `#/run/${encodeURIComponent(run)}`
}

interface ConsoleProps {
  operator: Operator
  watch: Watch
  onLeave: () => void
}

export function Console({ operator, watch, onLeave }: ConsoleProps) {
  const link = watch.link.value
  const runs = watch.runs.value
  const open = view.value
  // A wide window has room for a run beside the list: the newest, unless one is chosen.
  const chosen = open.name === 'run' ? open.run : open.name === 'list' ? runs?.[0]?.run : undefined
  const run = runs?.find((candidate) => candidate.run === chosen)

  return (
    <div class="console">
      <header class="console-top">
        <Mark href="#/" note="console" />
        <div class="console-tools">
          <LinkState link={link} />
          <button type="button" class="link" onClick={onLeave}>
            Sign out
          </button>
        </div>
      </header>
      {link.state === 'lost' && runs !== null && <Lost link={link} onRetry={() => watch.retry()} />}
      <div class="console-body" data-view={open.name}>
        {runs === null ? (
          link.state === 'lost' ? (
            <NoAnswer link={link} onRetry={() => watch.retry()} />
          ) : (
            <Loading />
          )
        ) : (
          <>
            {runs.length > 0 && (
              <nav class="runs" aria-label="Runs">
                <a class="button primary new-run" href="#/new" aria-current={open.name === 'new' ? 'page' : undefined}>
                  New run
                </a>
                <ul>
                  {runs.map((item) => (
                    <RunItem key={item.run} run={item} chosen={item.run === chosen} />
                  ))}
                </ul>
              </nav>
            )}
            <main class="pane">
              {open.name !== 'list' && (
                <a class="back" href="#/">
                  All runs
                </a>
              )}
              {open.name === 'new' ? (
                <Draft
                  operator={operator}
                  onCreated={(created) => {
                    watch.learn(created)
                    location.hash = addressOf(created.run)
                  }}
                />
              ) : run !== undefined ? (
                <RunView key={run.run} run={run} operator={operator} watch={watch} />
              ) : runs.length === 0 ? (
                <NoRuns />
              ) : (
                <div class="panel empty">
                  <h1>No such run</h1>
                  <p>The coordinator knows no run “{chosen}”. Choose one from the list.</p>
                </div>
              )}
            </main>
          </>
        )}
      </div>
    </div>
  )
}

function RunItem({ run, chosen }: { run: RunDetail; chosen: boolean }) {
  return (
    <li>
      <a class="run-item" href={addressOf(run.run)} aria-current={chosen ? 'page' : undefined}>
        <span class="run-item-name">{run.name}</span>
        <span class="run-item-accuracy">{run.testAccuracy === null ? '' : percent(run.testAccuracy, 1)}</span>
        <RunState state={run.state} />
        <span class="run-item-when">{ago(run.createdAt)}</span>
        <span class="bar" aria-hidden="true">
          <span style={{ width: `${Math.min(100, run.progress * 100)}%` }} />
        </span>
      </a>
    </li>
  )
}

function LinkState({ link }: { link: Link }) {
  const [mood, words] =
    link.state === 'live'
      ? ['good', 'Live']
      : link.state === 'lost'
        ? ['waiting', 'Reconnecting']
        : ['busy', 'Connecting']
  return (
    <span class="link-state" role="status">
      <span class={`dot ${mood}`} aria-hidden="true" /> {words}
    </span>
  )
}

type LostLink = Extract<Link, { state: 'lost' }>

const LOST = 'The connection to the coordinator was lost.'

function Lost({ link, onRetry }: { link: LostLink; onRetry: () => void }) {
  return (
    <div class="notice" role="alert">
      <p>
        <strong>Not live.</strong> {link.problem?.message ?? LOST} You see the last known state; the console tries again
        by itself.
      </p>
      <button type="button" class="button small" onClick={onRetry}>
        Try now
      </button>
    </div>
  )
}

function NoAnswer({ link, onRetry }: { link: LostLink; onRetry: () => void }) {
  const answered = link.problem !== null && link.problem.code !== 'unreachable'
  return (
    <main class="pane">
      <div class="panel empty" role="alert">
        <h1>{answered ? 'The coordinator has a problem' : 'The coordinator is not there'}</h1>
        <p>{link.problem?.message ?? LOST} The console tries again by itself.</p>
        <button type="button" class="button" onClick={onRetry}>
          Try now
        </button>
      </div>
    </main>
  )
}

function Loading() {
  return (
    <div class="loading" role="status">
      <span class="unseen">Loading the runs</span>
      <div class="runs" aria-hidden="true">
        <span class="ghost" />
        <span class="ghost" />
        <span class="ghost" />
      </div>
      <div class="pane" aria-hidden="true">
        <span class="ghost wide" />
        <span class="ghost high" />
      </div>
    </div>
  )
}

function NoRuns() {
  return (
    <div class="panel empty">
      <h1>No runs yet</h1>
      <p>
        A run trains one network on the devices of whoever opens <a href="/">{location.host}</a>. Create one, and
        everybody who is there starts to compute.
      </p>
      <a class="button primary" href="#/new">
        Create the first run
      </a>
    </div>
  )
}
