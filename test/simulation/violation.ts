/** A rule that does not hold: one of SPEC.md by its number, or one of the simulation's own by its name. */
export class Violation extends Error {
  readonly rule: string
  constructor(rule: string, message: string) {
    super(`${rule}: ${message}`)
    this.rule = rule
  }
}

export function must(rule: string, holds: boolean, message: string | (() => string)): void {
  if (!holds) throw new Violation(rule, typeof message === 'string' ? message : message())
}
