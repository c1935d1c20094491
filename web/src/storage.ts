// Values that are kept until the tab is closed; a browser that blocks storage keeps none.

export function stored(key: string): string | null {
  return attempt(() => sessionStorage.getItem(key));
}

export function store(key: string, value: string): void {
  attempt(() => sessionStorage.setItem(key, value));
}

/** The result of an access to the storage; null where it is blocked or full. */
function attempt<T>(access: () => T): T | null {
  try {
    return access();
  } catch (error) {
    if (error instanceof DOMException) return null;
    throw error;
  }
}
