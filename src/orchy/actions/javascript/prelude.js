// Runs before a script, in the same world. Returns a function that puts `$` there when it is called with the
// context as JSON text, and, called without, says as JSON text which top-level keys of `$` are new or not what they
// were. What it needs it takes hold of first, so that a script that changes the built-in objects can't break it.
(function () {
  'use strict';
  const {parse, stringify} = JSON;
  const keys = Object.keys;
  const isFinite = Number.isFinite;
  const global = globalThis;
  const apply = Reflect.apply;
  const join = Array.prototype.join;
  const before = {__proto__: null};

  function refuse(what) {
    throw new TypeError('the result has ' + what + ', which JSON can not hold');
  }

  function check(key, value) {
    switch (typeof value) {
      case 'function': return refuse('a function at "' + key + '"');
      case 'symbol': return refuse('a symbol at "' + key + '"');
      case 'bigint': return refuse('a BigInt at "' + key + '"');
      case 'number': return isFinite(value) ? value : refuse(value + ' at "' + key + '"');
      default: return value;
    }
  }

  function textOf(key, value) {
    return stringify(check(key, value), check);
  }

  return function (context) {
    if (context !== undefined) {
      const $ = parse(context);
      const names = keys($);
      for (let i = 0; i < names.length; i++) before[names[i]] = stringify($[names[i]]);
      global.$ = $;
      return '';
    }
    const $ = global.$;
    if (typeof $ !== 'object' || $ === null) refuse('something else than an object in $');
    const names = keys($);
    const changed = {__proto__: null, length: 0};
    for (let i = 0; i < names.length; i++) {
      const text = textOf(names[i], $[names[i]]);
      if (text !== undefined && text !== before[names[i]]) {
        changed[changed.length++] = stringify(names[i]) + ':' + text;
      }
    }
    // One flat text: an engine may hand out a concatenation as something else.
    const whole = {__proto__: null, 0: '{', 1: apply(join, changed, [',']), 2: '}', length: 3};
    return apply(join, whole, ['']);
  };
})()
