/**
 * A new run: a template, the few things most people change, and the whole RunSpec as editable JSON, which is what
 * is sent. The RunSpec's own parser checks it while it is typed; the coordinator has the last word.
 */
import { useEffect, useRef, useState } from 'preact/hooks'
import type { RunDetail } from '../../../shared/api.ts'
import type { ParsedRunSpec, SpecProblem } from '../../../shared/run-spec.ts'
import { takesWholePasses } from '../../../shared/whole-passes.ts'
import { placeOf } from './json-place.ts'
import type { Operator } from './operator.ts'
import { TEMPLATES, type Template } from './templates.ts'

type Parse = (value: unknown) => ParsedRunSpec

interface Checked {
  /** The text as data, when it is JSON. */
  value: Record<string, unknown> | null
  problems: SpecProblem[]
}

export function Draft({ operator, onCreated }: { operator: Operator; onCreated: (run: RunDetail) => void }) {
  const [parse, setParse] = useState<Parse | null>(null)
  const [template, setTemplate] = useState<Template>(TEMPLATES[0])
  const [text, setText] = useState('')
  const [refused, setRefused] = useState<{ message: string; problems: SpecProblem[] } | null>(null)
  const [busy, setBusy] = useState(false)
  const editor = useRef<HTMLTextAreaElement>(null)

  // The parser weighs more than the rest of the console, and only this form wants it.
  useEffect(() => {
    void import('../../../shared/run-spec.ts').then(({ parseRunSpec }) => {
      setParse(() => parseRunSpec)
      setText(filled(parseRunSpec, TEMPLATES[0].spec))
    })
  }, [])

  if (parse === null) {
    return (
      <div role="status">
        <span class="unseen">Loading the form</span>
        <span class="ghost high" aria-hidden="true" />
      </div>
    )
  }

  const checked = check(parse, text)
  const problems = refused?.problems.length ? refused.problems : checked.problems
  const edit = (next: string) => {
    setText(next)
    setRefused(null)
  }
  /** Changes one field of the text and lets the parser fill in what follows from it. */
  const change = (patch: Record<string, unknown>) => {
    if (checked.value !== null) edit(filled(parse, { ...checked.value, ...patch }))
  }
  const create = async () => {
    setBusy(true)
    setRefused(null)
    const answer = await operator.post<RunDetail>('/api/runs', checked.value)
    setBusy(false)
    if (answer.ok) return onCreated(answer.value)
    const { code, message, problems = [] } = answer.problem
    setRefused({
      message: code === 'bad-spec' && problems.length > 0 ? 'The coordinator refused these fields:' : message,
      problems,
    })
  }
  const show = (field: string) => {
    const place = placeOf(text, field)
    const area = editor.current!
    area.focus()
    if (place === null) return
    area.setSelectionRange(place.from, place.to)
    area.scrollTop = (place.line - 4) * Number.parseFloat(getComputedStyle(area).lineHeight)
  }

  const strategy = asText(asObject(checked.value?.strategy).name)
  const iterating = takesWholePasses({ name: strategy })

  return (
    <form
      class="draft"
      onSubmit={(event) => {
        event.preventDefault()
        if (problems.length === 0) void create()
      }}
    >
      <h1>New run</h1>
      <fieldset class="templates">
        <legend>Start from</legend>
        {TEMPLATES.map((choice) => (
          <label key={choice.title} class="template">
            <input
              type="radio"
              name="template"
              checked={choice === template}
              onChange={() => {
                setTemplate(choice)
                edit(filled(parse, choice.spec))
              }}
            />
            <span class="template-title">{choice.title}</span>
            <span class="template-words">{choice.words}</span>
          </label>
        ))}
      </fieldset>
      <div class="quick">
        <label class="field">
          <span>Name</span>
          <input
            type="text"
            maxLength={120}
            disabled={checked.value === null}
            value={asText(checked.value?.name)}
            onInput={(event) => change({ name: event.currentTarget.value })}
          />
        </label>
        <label class="field">
          <span>{iterating ? 'Iterations' : 'Epochs'}</span>
          <input
            type="number"
            min={1}
            disabled={checked.value === null}
            value={asText(asObject(checked.value?.stop).epochs)}
            onInput={(event) =>
              change({ stop: { ...asObject(checked.value?.stop), epochs: event.currentTarget.valueAsNumber } })
            }
          />
        </label>
        <label class="field">
          <span>Strategy</span>
          <select
            disabled={checked.value === null}
            value={strategy}
            onChange={(event) => change({ strategy: { name: event.currentTarget.value } })}
          >
            <option value="downpour">Downpour: asynchronous</option>
            <option value="synchronous">Synchronous</option>
            <option value="gradient-descent">Gradient descent: whole passes</option>
            <option value="sandblaster">Sandblaster: L-BFGS</option>
          </select>
        </label>
      </div>
      <label class="field">
        <span>RunSpec (JSON)</span>
        <textarea
          ref={editor}
          class="editor"
          rows={22}
          spellcheck={false}
          autocapitalize="off"
          value={text}
          aria-invalid={problems.length > 0}
          aria-describedby="draft-problems"
          onInput={(event) => edit(event.currentTarget.value)}
        />
      </label>
      <div id="draft-problems" class="problems" role="status">
        {refused !== null && <p class="error">{refused.message}</p>}
        {problems.length > 0 && (
          <ul>
            {problems.map(({ field, message }) => (
              <li key={`${field} ${message}`}>
                <button type="button" class="link" onClick={() => show(field)}>
                  {field}
                </button>{' '}
                {message}
                {checked.value !== null && <Line text={text} field={field} />}
              </li>
            ))}
          </ul>
        )}
      </div>
      <div class="draft-act">
        <button type="submit" class="button primary" disabled={busy || problems.length > 0}>
          {busy ? 'Creating…' : 'Create run'}
        </button>
        <a class="button" href="#/">
          Cancel
        </a>
      </div>
    </form>
  )
}

function Line({ text, field }: { text: string; field: string }) {
  const place = placeOf(text, field)
  return place === null ? null : <span class="quiet"> · line {place.line}</span>
}

/** A spec with every default written out, so that what can be changed is seen; as it is, where it does not parse. */
function filled(parse: Parse, spec: object): string {
  const parsed = parse(spec)
  return JSON.stringify(parsed.ok ? parsed.spec : spec, null, 2)
}

function check(parse: Parse, text: string): Checked {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return { value: null, problems: [{ field: '(the text)', message: `is not JSON: ${(error as Error).message}` }] }
  }
  const parsed = parse(value)
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return { value: isObject ? (value as Record<string, unknown>) : null, problems: parsed.ok ? [] : parsed.problems }
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function asText(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}
