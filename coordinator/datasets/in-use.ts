/** Values by key for as long as somebody else holds them: opened once, and let go of when nobody uses them any more. */
export class InUse<Value extends object> {
  private readonly values = new Map<string, WeakRef<Value>>()

  /** The value of this key, made where nobody holds one. */
  get(key: string, make: () => Value): Value {
    const value = this.values.get(key)?.deref() ?? make()
    this.values.set(key, new WeakRef(value))
    return value
  }
}
