/** Ctrl-C: what is under way was left so that the same command goes on with it. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted'
  constructor() {
    super('interrupted')
  }
}
