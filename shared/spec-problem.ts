/** What is wrong with a RunSpec, in words for the operator: what was expected, and what came. */
import type { z } from 'zod'

/** What a spec cannot be: the field, the reason, and what to write instead. */
export interface Contradiction {
  readonly path: string[]
  readonly message: string
}

/** One issue in words; `given` is what the operator wrote there. */
export function problem(issue: z.core.$ZodIssue, given: unknown): string {
  const expected = (what: string) => `expected ${what}, got ${shown(given)}`
  const units = (origin: string, n: number | bigint) =>
    origin === 'array' ? ` item${n === 1 ? '' : 's'}` : origin === 'string' ? ` character${n === 1 ? '' : 's'}` : ''
  switch (issue.code) {
    case 'invalid_type':
      return expected(TYPES[issue.expected] ?? issue.expected)
    case 'invalid_value':
      return expected(choice(issue.values.map(String)))
    case 'invalid_union':
      return 'options' in issue && Array.isArray(issue.options)
        ? expected(choice(issue.options.map(String)))
        : issue.message
    case 'too_small':
      return expected(
        `${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}${units(issue.origin, issue.minimum)}`,
      )
    case 'too_big':
      return expected(
        `${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}${units(issue.origin, issue.maximum)}`,
      )
    default:
      return issue.message
  }
}

const TYPES: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a text',
  boolean: 'true or false',
  object: 'an object',
  array: 'a list',
}

const choice = (options: readonly string[]) => (options.length === 1 ? options[0] : `one of ${options.join(', ')}`)

function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}…` : text
}
