// Runs before a script, in the same realm. Its value is a function with three uses:
//   f(context)  defines `$`, parsed from the context's JSON;
//   f()         gives the top-level keys of `$` that were added or changed, as JSON;
//   f(null)     gives, after f() threw, why there is no result (empty: the script's own throw) and, on the next line,
//               the key that it was at.
// It saves references to all built-ins first, so that a script that changes them can neither break nor deceive it. The
// names of its functions begin with orchy_, so that their stack frames are not taken for the script's.
(function () {
  'use strict';
  const {parse, stringify} = JSON;
  const {keys, defineProperty} = Object;
  const {deleteProperty, apply} = Reflect;
  const isArray = Array.isArray;
  const isFinite = Number.isFinite;
  const arrays = Array.prototype;
  const objects = Object.prototype;
  const join = arrays.join;
  const global = globalThis;
  const before = {__proto__: null};
  let at = '';
  let refused = '';

  // Globals that only one engine has or that reach beyond the language, removed so that no script depends on them.
  const foreign = [
    'Atomics', 'DOMException', 'SharedArrayBuffer', 'WebAssembly', '__timer_manager', 'atob', 'btoa', 'clearTimeout',
    'console', 'performance', 'queueMicrotask', 'setTimeout',
  ];
  for (let i = 0; i < foreign.length; i++) {
    if (foreign[i] in global && !deleteProperty(global, foreign[i])) global[foreign[i]] = undefined;
  }

  function orchy_refuse(why) {
    refused = why;
    throw why;
  }

  function orchy_refuse_value(what) {
    return orchy_refuse('the result has ' + what + ' at ' + stringify(at) + ', which JSON can not hold');
  }

  // One flat string: a binding may not convert an engine's representation of a concatenation.
  function orchy_flat(first, second, third) {
    return apply(join, {__proto__: null, 0: first, 1: second, 2: third, length: 3}, ['']);
  }

  function orchy_check(key, value) {
    switch (typeof value) {
      case 'number': return isFinite(value) ? value : orchy_refuse_value('' + value);
      case 'function': return orchy_refuse_value('a function');
      case 'symbol': return orchy_refuse_value('a symbol');
      case 'bigint': return orchy_refuse_value('a BigInt');
      default: return value;
    }
  }

  function orchy_begin(context) {
    const $ = parse(context);
    const names = keys($);
    for (let i = 0; i < names.length; i++) before[names[i]] = stringify($[names[i]]);
    // Not configurable, so that `let $` can't shadow it and it stays a data property.
    defineProperty(global, '$', {__proto__: null, value: $, writable: true, enumerable: true, configurable: false});
    return '';
  }

  function orchy_changes() {
    // With one of these, the script would control the JSON of every object, even of those that it never touched.
    if (!deleteProperty(objects, 'toJSON') || !deleteProperty(arrays, 'toJSON')) {
      orchy_refuse('the script gave all objects a toJSON that can not be taken away');
    }
    const $ = global.$;
    if (typeof $ !== 'object' || $ === null || isArray($)) orchy_refuse('$ is no object any more');
    const names = keys($);
    const changed = {__proto__: null, length: 0};
    for (let i = 0; i < names.length; i++) {
      at = names[i];
      const text = stringify($[at], orchy_check);
      if (text !== undefined && text !== before[at]) changed[changed.length++] = stringify(at) + ':' + text;
    }
    return orchy_flat('{', apply(join, changed, [',']), '}');
  }

  return function orchy_prelude(context) {
    if (context === undefined) return orchy_changes();
    return context === null ? orchy_flat(refused, '\n', at) : orchy_begin(context);
  };
})()
//# sourceURL=orchy-prelude
